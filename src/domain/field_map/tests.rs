use super::*;
use crate::domain::{Amount, AssetId, NotifiedChange, Seq};

fn test_map(pointers: [&str; 6]) -> FieldMap {
    FieldMap::new(pointers).unwrap()
}

fn said_values(asset: i64, seq: i64, avail: i64, frozen: i64) -> NotifiedChange {
    NotifiedChange::Values {
        asset: AssetId::try_from(asset).unwrap(),
        seq: Seq::try_from(seq).unwrap(),
        avail: Amount::from_raw(avail),
        frozen: Amount::from_raw(frozen),
    }
}

#[test]
fn the_default_reads_what_the_contract_says_and_decimal_strings_too() {
    let fields = FieldMap::default();
    for json in [
        r#"{"user_id":1001,"asset_id":1,"seq":18,"avail":5,"frozen":-1,"x":{"seq":[9]}}"#,
        r#"{"user_id":"1001","asset_id":"1","seq":"18","avail":"5","frozen":"-1"}"#,
        r#"[{"user_id":"1001","asset_id":1,"seq":"18","avail":5,"frozen":-1,"created_at":null}]"#,
    ] {
        let all = fields.parse_all(json).unwrap();
        assert_eq!(all.len(), 1, "{json}");
        assert_eq!(all[0].said, said_values(1, 18, 5, -1), "{json}");
    }
    // A mistake in both forms is reported by the typed one.
    let said = fields.parse_all(r#"{"user_id":1.5}"#).unwrap_err();
    assert!(said.contains("user_id: must be a whole number"), "{said}");
}

#[test]
fn pointers_lead_through_objects_arrays_and_escaped_names() {
    let fields = test_map([
        "/after/user",
        "/a~1b/0/asset",
        "/m~0n",
        "/list/1",
        "/list/2",
        "/after/at",
    ]);
    let json = r#" {"list":[0,"7",8,9],"a/b":[{"asset":2,"user":5},{"asset":3}],"m~n":"9223372036854775807",
        "after":{"user":42,"at":1765352441955,"deep":{"user":7}},"user":1,"big":123456789012345678901234567890}"#;
    let all = fields.parse_all(json).unwrap();
    assert_eq!(all[0].user.get(), 42);
    assert_eq!(all[0].said, said_values(2, i64::MAX, 7, 8));
    assert_eq!(all[0].created_at.unwrap().0, 1_765_352_441_955);
}

#[test]
fn one_value_may_be_two_fields_and_what_is_not_there_is_absent() {
    let fields = test_map(["/after/id", "/x", "/x", "/x", "/x", "/x"]);
    let said = |json: &str| fields.parse_all(json).map(|all| all[0].said);
    assert_eq!(
        said(r#"{"after":{"id":7},"x":null}"#),
        Ok(NotifiedChange::User)
    );
    assert_eq!(
        said(r#"{"after":{"id":7},"x":3}"#),
        Ok(said_values(3, 3, 3, 3))
    );
    for without in [
        r#"{"after":null}"#,
        r#"{"after":3}"#,
        r#"{"after":[]}"#,
        "{}",
    ] {
        assert_eq!(
            said(without).unwrap_err(),
            "user_id is missing",
            "{without}"
        );
    }
}

#[test]
fn a_value_that_is_no_whole_number_is_refused_by_field_and_pointer() {
    let fields = test_map(["/u", "/after/asset", "/s", "/a", "/f", "/c"]);
    for bad in [
        "1.0",
        "1e3",
        "true",
        "{}",
        "[1]",
        r#""""#,
        r#""+1""#,
        r#""01""#,
        r#""-0""#,
        r#""1.0""#,
        r#"" 1""#,
        r#""null""#,
        "9223372036854775808",
        r#""9223372036854775808""#,
    ] {
        let json = format!(r#"{{"u":1,"after":{{"asset":{bad}}},"s":1}}"#);
        let said = fields.parse_all(&json).unwrap_err();
        assert!(
            said.starts_with("asset_id (/after/asset) must be"),
            "{bad}: {said}"
        );
    }
}

#[test]
fn a_member_that_stands_twice_is_refused_wherever_a_pointer_leads() {
    let fields = test_map([
        "/after/u", "/after/b", "/after/s", "/after/a", "/after/f", "/c",
    ]);
    for bad in [
        r#"{"after":{"u":1,"u":2}}"#,
        r#"{"after":{"u":1},"after":{"b":2}}"#,
        r#"{"after":{"u":1},"c":1,"c":1}"#,
    ] {
        let said = fields.parse_all(bad).unwrap_err();
        assert!(said.contains("stands twice"), "{bad}: {said}");
    }
    let ignored = r#"{"after":{"u":1,"z":1,"z":2},"z":1,"z":2}"#;
    assert!(fields.parse_all(ignored).is_ok());
    for bad in [
        r#"{"after":{"u":1}"#,
        r#"{"after":{"u":1}} x"#,
        "[]x",
        "1",
        "null",
    ] {
        assert!(fields.parse_all(bad).is_err(), "{bad}");
    }
}

#[test]
fn pointers_that_cannot_be_used_are_all_told_by_their_field() {
    let errors = FieldMap::new(["user", "", "/a~2b", "/x~", "/ok", "/"]).unwrap_err();
    let fields: Vec<_> = errors.iter().map(|error| error.field).collect();
    assert_eq!(fields, ["user_id", "asset_id", "seq", "avail"]);
    let errors = FieldMap::new(["/a", "/a/b", "/s", "/v", "/f", "/f/x"]).unwrap_err();
    let fields: Vec<_> = errors.iter().map(|error| error.field).collect();
    assert_eq!(fields, ["asset_id", "created_at"]);
    assert!(errors[0].reason.contains("user_id"), "{}", errors[0].reason);
}

/// A change event of `TigerBeetle`: one of its two accounts, the time stamp as the seq.
#[test]
fn a_tigerbeetle_change_event_is_read() {
    let event = r#"{"timestamp":1745328372758695656,"type":"single_phase","ledger":2,
        "transfer":{"id":9082709,"amount":3794,"pending_id":0,"user_data_128":79248595801719937611592367840129079151,
            "user_data_64":13615171707598273871,"user_data_32":3229992513,"timeout":0,"code":20295,"flags":0,
            "timestamp":1745328372758695656},
        "debit_account":{"id":3750,"debits_pending":0,"debits_posted":8463768,"credits_pending":0,"credits_posted":8861179,
            "user_data_128":118966247877720884212341541320399553321,"user_data_64":526432537153007844,
            "user_data_32":4157247332,"code":1,"flags":0,"timestamp":1745328270103398016},
        "credit_account":{"id":6765,"debits_pending":0,"debits_posted":0,"credits_pending":0,"credits_posted":8861179,
            "user_data_128":0,"user_data_64":"1001","user_data_32":1,"code":1,"flags":0,"timestamp":1745328270103401031}}"#;
    let of_account = test_map([
        "/credit_account/user_data_64",
        "/ledger",
        "/timestamp",
        "/credit_account/credits_posted",
        "/credit_account/debits_pending",
        "/created_at",
    ]);
    let all = of_account.parse_all(event).unwrap();
    assert_eq!(all[0].user.get(), 1001);
    assert_eq!(
        all[0].said,
        said_values(2, 1_745_328_372_758_695_656, 8_861_179, 0)
    );
}

#[test]
fn a_debezium_envelope_is_read() {
    let event = r#"{"before":{"user_id":1001,"asset_id":1,"version":17,"avail":1,"frozen":0},
        "after":{"user_id":1001,"asset_id":1,"version":18,"avail":"910000000000","frozen":"0","updated_at":1765352441955},
        "source":{"connector":"postgresql","ts_ms":1765352441960,"lsn":24023128},"op":"u","ts_ms":1765352442001}"#;
    let fields = test_map([
        "/after/user_id",
        "/after/asset_id",
        "/after/version",
        "/after/avail",
        "/after/frozen",
        "/after/updated_at",
    ]);
    let all = fields.parse_all(event).unwrap();
    assert_eq!(all[0].said, said_values(1, 18, 910_000_000_000, 0));
    let deleted = r#"{"before":{"user_id":1001},"after":null,"op":"d"}"#;
    assert_eq!(fields.parse_all(deleted).unwrap_err(), "user_id is missing");
}
