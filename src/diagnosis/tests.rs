use super::*;

#[test]
fn every_sentence_names_where_why_and_what_to_do() {
    for code in Code::ALL {
        let finding = Finding::new(FindingPart::Redis, *code, "10.0.0.1:6379");
        for said in [finding.clone(), finding.with_detail("XACK")] {
            let (cause, remedy, sentence) =
                (said.cause_text(), said.remedy_text(), said.to_string());
            assert!(!cause.is_empty() && !remedy.is_empty(), "{code:?}");
            assert!(!sentence.contains('{'), "{code:?}: {sentence}");
            assert!(!sentence.contains("extension error"), "{code:?}");
            assert!(sentence.starts_with("redis: "), "{sentence}");
        }
        let where_it_is = code.label_value().starts_with("feed_");
        assert!(
            where_it_is
                || Finding::new(FindingPart::Redis, *code, "here")
                    .cause_text()
                    .contains("here"),
            "{code:?} names no address"
        );
    }
}

#[test]
fn no_two_codes_share_a_word() {
    let mut words: Vec<_> = Code::ALL.iter().map(|code| code.label_value()).collect();
    words.sort_unstable();
    let count = words.len();
    words.dedup();
    assert_eq!(words.len(), count);
}

#[test]
fn a_sentence_has_the_address_and_the_detail_in_their_places() {
    let finding = Finding::new(FindingPart::Stream, Code::RedisForbidden, "127.0.0.1:6379")
        .with_detail("XAUTOCLAIM");
    assert_eq!(
        finding.to_string(),
        "settlement stream: 127.0.0.1:6379 forbids this user the command XAUTOCLAIM (NOPERM); \
         ACL SETUSER with +XAUTOCLAIM for the user of redis.url"
    );
}
