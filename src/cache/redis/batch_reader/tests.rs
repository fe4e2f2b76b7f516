//! Answers in pieces, of the wrong kind, and of nobody.

use proptest::prelude::*;
use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::cache::redis::entry::Corrupt;

const TWO: &[u8] = b"*4\r\n$1\r\nv\r\n$1\r\n1\r\n$5\r\nepoch\r\n$3\r\na\r\n\r\n*0\r\n";

type FieldAndValue<'a> = (&'a [u8], &'a [u8]);

fn reply_pairs(reply: Reply<'_>) -> Result<Vec<FieldAndValue<'_>>, Corrupt> {
    reply.hash_pairs()?.collect()
}

/// The replies handed out to questions for that many replies each, of what comes in these pieces.
fn handed_out(pieces: &[&[u8]], asked: &[usize]) -> (Vec<Option<RespReplies>>, io::Result<()>) {
    let (mut waiting, mut answers) = (VecDeque::new(), Vec::new());
    for replies in asked {
        let (back, answer) = oneshot::channel();
        waiting.push_back((RespParser::new(*replies), back));
        answers.push(answer);
    }
    let mut read = BytesMut::new();
    let mut end = Ok(());
    for piece in pieces {
        read.extend_from_slice(piece);
        end = end.and_then(|()| hand_out(&mut read, &mut waiting));
    }
    let answers = answers.into_iter().map(|mut answer| answer.try_recv().ok());
    (answers.collect(), end)
}

#[test]
fn an_answer_is_cut_into_its_replies() {
    let (answers, end) = handed_out(&[TWO], &[2]);
    assert!(end.is_ok());
    let answer = answers[0].clone().unwrap();
    let replies: Vec<_> = answer.replies().map(reply_pairs).collect();
    let first: [FieldAndValue<'_>; 2] = [(b"v", b"1"), (b"epoch", b"a\r\n")];
    assert_eq!(replies, [Ok(first.to_vec()), Ok(vec![])]);
}

#[test]
fn questions_are_answered_in_their_order() {
    let (answers, end) = handed_out(&[b"*0\r\n-LOADING wait\r\n", b"*0\r\n*0"], &[1, 2, 1]);
    assert!(end.is_ok());
    let bytes = |answer: &Option<RespReplies>| answer.as_ref().map(|answer| answer.bytes.to_vec());
    assert_eq!(bytes(&answers[0]).unwrap(), b"*0\r\n");
    assert_eq!(bytes(&answers[1]).unwrap(), b"-LOADING wait\r\n*0\r\n");
    assert_eq!(bytes(&answers[2]), None);
}

#[test]
fn what_is_no_hash_is_corrupt_and_what_is_no_resp_ends_the_connection() {
    for bad in [
        "-WRONGTYPE Operation\r\n",
        "+OK\r\n",
        ":1\r\n",
        "$2\r\nhi\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "*1\r\n$1\r\na\r\n",
        "*2\r\n$1\r\na\r\n:1\r\n",
        "*2\r\n$1\r\na\r\n$-1\r\n",
        "*2\r\n$1\r\na\r\n*0\r\n",
    ] {
        let (answers, end) = handed_out(&[bad.as_bytes()], &[1]);
        assert!(end.is_ok(), "{bad}");
        let answer = answers[0].clone().unwrap();
        assert_eq!(
            answer.replies().map(reply_pairs).collect::<Vec<_>>(),
            [Err(Corrupt)],
            "{bad}"
        );
    }
    for bad in [
        "%1\r\n",
        "\r\n",
        "*a\r\n",
        "*\r\n",
        "$3\r\nabcde\r\n",
        "$600000000\r\n",
        "*99999999999999999999\r\n",
        "*0\rx",
        "*0\r\n*0\r\n",
    ] {
        let (_, end) = handed_out(&[bad.as_bytes()], &[1]);
        assert!(end.is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn it_does_not_matter_how_an_answer_comes_in_pieces(cuts in proptest::collection::vec(0..TWO.len(), 0..6)) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let (mut pieces, mut begin) = (Vec::new(), 0);
        for cut in cuts {
            pieces.push(&TWO[begin..cut]);
            begin = cut;
        }
        pieces.push(&TWO[begin..]);
        let (answers, end) = handed_out(&pieces, &[2]);
        prop_assert!(end.is_ok());
        prop_assert_eq!(&answers, &handed_out(&[TWO], &[2]).0);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in "[*$+:0-9a\r\n-]{0,40}") {
        let (answers, _) = handed_out(&[bytes.as_bytes()], &[1, 2]);
        for answer in answers.iter().flatten() {
            answer.replies().for_each(|reply| drop(reply_pairs(reply)));
        }
    }
}

fn test_user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn test_batch_reader() -> (BatchReader, DuplexStream) {
    let (near, far) = duplex(1 << 10);
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(drive_connection(near, asked));
    (BatchReader(asks), far)
}

#[tokio::test]
async fn many_keys_are_one_question_and_who_waits_is_let_go_when_the_connection_ends() {
    let (batch_reader, mut far) = test_batch_reader();
    let server = async {
        let asked = b"*2\r\n$7\r\nHGETALL\r\n$3\r\nu:1\r\n*2\r\n$7\r\nHGETALL\r\n$4\r\nu:22\r\n";
        let mut seen = vec![0; asked.len()];
        far.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen, asked);
        far.write_all(TWO).await.unwrap();
        far.read_exact(&mut seen[..1]).await.unwrap();
        drop(far);
    };
    let reader = async {
        let answer = batch_reader
            .read_hashes("u:", &[test_user(1), test_user(22)])
            .await
            .unwrap();
        assert_eq!(answer.replies().count(), 2);
        let broken = batch_reader.read_hashes("u:", &[test_user(3)]).await;
        assert!(broken.unwrap_err().is_io_error());
        let broken = batch_reader.read_hashes("u:", &[test_user(4)]).await;
        assert!(broken.unwrap_err().is_io_error());
    };
    tokio::join!(server, reader);
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_is_nobody_elses() {
    let (batch_reader, mut far) = test_batch_reader();
    let one = [test_user(1)];
    assert!(futures::FutureExt::now_or_never(batch_reader.read_hashes("", &one)).is_none());
    let server = async {
        let mut seen = [0; 48];
        far.read_exact(&mut seen).await.unwrap();
        far.write_all(b"*0\r\n*2\r\n$1\r\nv\r\n$1\r\n1\r\n")
            .await
            .unwrap();
    };
    let (answer, ()) = tokio::join!(batch_reader.read_hashes("", &one), server);
    assert_eq!(&answer.unwrap().bytes[..2], b"*2");
}
