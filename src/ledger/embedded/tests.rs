use std::{collections::BTreeMap, path::PathBuf};

use proptest::{collection::vec, prelude::*};
use tempfile::TempDir;

use super::*;
use crate::domain::{Amount, Seq, UnixMillis};

mod above;
mod disk;
mod outbox;
mod repeats;
mod totals;
mod transactions;

const TIMEOUT: Duration = Duration::from_mins(1);

fn settings(path: PathBuf, sample_data: bool) -> config::Embedded {
    config::Embedded {
        path,
        sample_data,
        check_at_start: true,
    }
}

fn open(folder: &TempDir) -> Embedded {
    let settings = settings(folder.path().join("ledger.redb"), false);
    Embedded::open(&settings, TIMEOUT, 7).unwrap()
}

fn entry(user: i64, asset: i32, seq: i64, avail: i64) -> Entry {
    Entry {
        user: UserId::new(user).unwrap(),
        asset: AssetId::new(asset).unwrap(),
        seq: Seq::new(seq).unwrap(),
        avail: Amount::from_raw(avail),
        frozen: Amount::from_raw(-avail),
        delta_avail: None,
        delta_frozen: None,
        event_type: Some("deposit".to_owned()),
        ref_id: None,
        created_at: Some(UnixMillis(seq)),
    }
}

/// Asset, seq, avail, frozen, `updated_at`.
fn plain(snapshot: &Snapshot) -> Vec<(i32, i64, i64, i64, Option<i64>)> {
    let balances = snapshot.balances().iter();
    balances
        .map(|balance| {
            (
                balance.asset.get(),
                balance.seq.get(),
                balance.avail.raw(),
                balance.frozen.raw(),
                balance.updated_at.map(|at| at.0),
            )
        })
        .collect()
}

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn assets(ids: &[i32]) -> Vec<AssetId> {
    ids.iter().map(|id| AssetId::new(*id).unwrap()).collect()
}

#[tokio::test]
async fn the_sample_users_are_there_and_1001_ends_with_9100_btc() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path().join("deep/er/ledger.redb"), true);
    let ledger = Embedded::open(&settings, TIMEOUT, 1).unwrap();
    for id in 1001..=1010 {
        let loaded = ledger.load(user(id)).await.unwrap();
        assert_eq!(loaded.assets().collect::<Vec<_>>(), assets(&[1, 2, 3]));
    }
    let rich = ledger.load(user(1001)).await.unwrap();
    let btc = (1, 17, 910_000_000_000, 0, Some(1_765_352_441_955));
    assert_eq!(plain(&rich)[0], btc);
    assert!(
        ledger
            .load(user(999_999))
            .await
            .unwrap()
            .balances()
            .is_empty()
    );
    assert_eq!(ledger.readiness(), Readiness::Ready);
}

#[tokio::test]
async fn sample_data_go_into_an_empty_ledger_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let ledger = Embedded::open(&settings(path.clone(), false), TIMEOUT, 1).unwrap();
    ledger.write(&[entry(5, 1, 1, 10)]).await.unwrap();
    drop(ledger);
    let ledger = Embedded::open(&settings(path, true), TIMEOUT, 2).unwrap();
    assert!(ledger.load(user(1001)).await.unwrap().balances().is_empty());
    assert_eq!(plain(&ledger.load(user(5)).await.unwrap()).len(), 1);
}

#[tokio::test]
async fn the_identity_is_the_files_own_and_survives_a_restart() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |folder: &TempDir, id| {
        let settings = settings(folder.path().join("ledger.redb"), true);
        Embedded::open(&settings, TIMEOUT, id).unwrap().identity()
    };
    let first = at(&one, 1);
    assert_eq!(at(&one, 2), first);
    assert_ne!(at(&other, 3), first);
}

#[tokio::test]
async fn a_second_instance_is_told_that_the_ledger_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(&folder);
    let again = settings(folder.path().join("ledger.redb"), false);
    let error = Embedded::open(&again, TIMEOUT, 1).unwrap_err();
    assert_eq!(error.kind, OpenErrorKind::InUse, "{error}");
    assert!(error.to_string().contains("belongs to one instance"));
}

#[test]
fn a_file_that_is_no_ledger_and_a_path_that_cannot_be_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other");
    std::fs::write(&file, vec![b'x'; 8192]).unwrap();
    let open = |path: PathBuf| Embedded::open(&settings(path, true), TIMEOUT, 1).unwrap_err();
    let foreign = open(file.clone());
    assert_eq!(foreign.kind, OpenErrorKind::Foreign, "{foreign}");
    let below_a_file = open(file.join("ledger.redb"));
    assert_eq!(
        below_a_file.kind,
        OpenErrorKind::Inaccessible,
        "{below_a_file}"
    );
    let a_folder = open(folder.path().to_owned());
    assert_eq!(a_folder.kind, OpenErrorKind::Inaccessible, "{a_folder}");
}

#[tokio::test]
async fn a_truncated_ledger_is_an_error_and_no_empty_ledger() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder));
    let path = folder.path().join("ledger.redb");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(5000).unwrap();
    let error = Embedded::open(&settings(path, false), TIMEOUT, 1).unwrap_err();
    assert_eq!(error.kind, OpenErrorKind::Damaged, "{error}");
}

#[tokio::test]
async fn a_ledger_of_another_layout_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder));
    let path = folder.path().join("ledger.redb");
    {
        let database = redb::Database::open(&path).unwrap();
        let meta: redb::TableDefinition<'_, &str, &str> = redb::TableDefinition::new("meta");
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(meta)
            .unwrap()
            .insert("layout", "2")
            .unwrap();
        transaction.commit().unwrap();
    }
    let error = Embedded::open(&settings(path, true), TIMEOUT, 1).unwrap_err();
    assert_eq!(error.kind, OpenErrorKind::Layout, "{error}");
}

#[tokio::test]
async fn a_conflict_names_its_entry_and_nothing_of_the_request_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    ledger.write(&[entry(1, 1, 5, 50)]).await.unwrap();
    let request = [entry(1, 1, 6, 60), entry(1, 1, 5, 50), entry(1, 1, 5, 51)];
    let conflict = ledger.write(&request).await.unwrap_err();
    assert!(matches!(conflict, WriteError::Conflict { index: 2 }));
    let twice = [entry(1, 2, 1, 1), entry(1, 2, 1, 2)];
    let conflict = ledger.write(&twice).await.unwrap_err();
    assert!(matches!(conflict, WriteError::Conflict { index: 1 }));
    let loaded = ledger.load(user(1)).await.unwrap();
    assert_eq!(plain(&loaded), [(1, 5, 50, -50, Some(5))]);
    assert_eq!(
        ledger.readiness(),
        Readiness::Ready,
        "a conflict is an answer"
    );
}

#[tokio::test]
async fn a_repeat_is_counted_and_an_older_seq_does_not_move_the_balance_back() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    let newer = [entry(1, 1, 9, 90), entry(1, 1, 9, 90), entry(1, 1, 3, 30)];
    let done = ledger.write(&newer).await.unwrap();
    assert_eq!((done.written, done.repeated), (2, 1));
    let done = ledger
        .write(&[entry(1, 1, 7, 70), entry(1, 1, 3, 30)])
        .await;
    assert_eq!(
        done.unwrap(),
        Written {
            written: 1,
            repeated: 1
        }
    );
    let newest = [(1, 9, 90, -90, Some(9))];
    assert_eq!(plain(&ledger.load(user(1)).await.unwrap()), newest);
    let latest = ledger.latest(user(1), &assets(&[1, 2])).await.unwrap();
    assert_eq!(plain(&latest), newest);
}

#[tokio::test]
async fn requests_at_the_same_time_are_each_whole_and_one_of_two_amounts_wins() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    let requests: Vec<_> = (0..50)
        .map(|n| {
            vec![
                entry(1, n + 2, 1, i64::from(n)),
                entry(1, 1, 1, i64::from(n)),
            ]
        })
        .collect();
    let answers = futures::future::join_all(requests.iter().map(|it| ledger.write(it))).await;
    let won: Vec<_> = (0..50).filter(|n| answers[*n].is_ok()).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    assert_eq!(plain(&ledger.load(user(1)).await.unwrap()).len(), 2);
}

#[tokio::test]
async fn a_writer_who_leaves_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    let gone = [entry(1, 1, 1, 1)];
    for _ in 0..10 {
        let mut write = ledger.write(&gone);
        assert!(futures::poll!(&mut write).is_pending());
        drop(write);
    }
    let done = ledger.write(&[entry(2, 1, 1, 1)]).await.unwrap();
    assert_eq!(done.written, 1);
    assert!(ledger.group.is_idle());
}

#[tokio::test]
async fn a_read_looks_at_one_row_for_each_asset_however_long_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(&folder);
    let ids: Vec<i32> = (1..=10).collect();
    for seqs in [1..=10_i64, 11..=2_000] {
        let rows: Vec<_> = seqs
            .flat_map(|seq| ids.iter().map(move |id| entry(1, *id, seq, seq)))
            .collect();
        ledger.write(&rows).await.unwrap();
        let before = ledger
            .keeper
            .session()
            .tables
            .rows_read
            .load(Ordering::Relaxed);
        ledger.load(user(1)).await.unwrap();
        ledger.latest(user(1), &assets(&ids)).await.unwrap();
        let read = ledger
            .keeper
            .session()
            .tables
            .rows_read
            .load(Ordering::Relaxed)
            - before;
        assert_eq!(read, 20);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(i64, i32, i64, i64)>),
    Read(i64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let row = (1..4_i64, 1..4_i32, 1..6_i64, 0..2_i64);
    prop_oneof![
        4 => vec(row, 0..6).prop_map(Step::Write),
        2 => (1..4_i64).prop_map(Step::Read),
        1 => Just(Step::Reopen),
    ]
}

/// (user, asset, seq) → avail.
type Model = BTreeMap<(i64, i32, i64), i64>;

fn model_write(model: &mut Model, rows: &[(i64, i32, i64, i64)]) -> Result<Written, usize> {
    let (mut next, mut done) = (model.clone(), Written::default());
    for (index, (user, asset, seq, avail)) in rows.iter().enumerate() {
        match next.insert((*user, *asset, *seq), *avail) {
            None => done.written += 1,
            Some(stands) if stands == *avail => done.repeated += 1,
            Some(_) => return Err(index),
        }
    }
    *model = next;
    Ok(done)
}

fn model_newest(model: &Model, user: i64) -> Vec<(i32, i64, i64, i64, Option<i64>)> {
    let rows = model.iter().filter(|((of, ..), _)| *of == user);
    let newest: BTreeMap<_, _> = rows
        .map(|((_, asset, seq), avail)| (*asset, (*asset, *seq, *avail, -avail, Some(*seq))))
        .collect();
    newest.into_values().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn it_does_what_a_map_would_do(steps in vec(step(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (mut ledger, mut model) = (open(&folder), Model::new());
        for step in steps {
            match step {
                Step::Write(rows) => {
                    let entries: Vec<_> = rows
                        .iter()
                        .map(|(user, asset, seq, avail)| entry(*user, *asset, *seq, *avail))
                        .collect();
                    let done = match runtime.block_on(ledger.write(&entries)) {
                        Ok(done) => Ok(done),
                        Err(WriteError::Conflict { index }) => Err(index),
                        Err(WriteError::Source(error)) => panic!("{error}"),
                    };
                    prop_assert_eq!(done, model_write(&mut model, &rows));
                }
                Step::Read(id) => {
                    let all = assets(&[1, 2, 3, 4]);
                    let loaded = runtime.block_on(ledger.load(user(id))).unwrap();
                    let latest = runtime.block_on(ledger.latest(user(id), &all)).unwrap();
                    prop_assert_eq!(plain(&loaded), model_newest(&model, id));
                    prop_assert_eq!(plain(&latest), model_newest(&model, id));
                }
                Step::Reopen => {
                    drop(ledger);
                    ledger = open(&folder);
                }
            }
        }
    }
}
