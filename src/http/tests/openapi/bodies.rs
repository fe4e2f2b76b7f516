//! Bodies that the parsers take or refuse, beside what the description says of them.

use super::*;

#[test]
fn bodies_that_the_parsers_take_fit_and_those_that_they_refuse_do_not() {
    let described = build_description(false);
    let schema = |name: &str| serde_json::json!({"$ref": format!("#/components/schemas/{name}")});
    let fits = |name: &str, body: &str| {
        described
            .faults(&schema(name), &serde_json::from_str(body).unwrap())
            .is_empty()
    };
    for body in [
        r#"{"user_id":1}"#,
        r#"{"user_id":9223372036854775807,"asset_id":2147483647,"seq":9223372036854775807,"avail":-9223372036854775808,"frozen":9223372036854775807}"#,
        r#"{"user_id":1,"asset_id":null,"seq":null,"avail":null,"frozen":null,"created_at":null}"#,
        r#"{"user_id":1,"asset_id":1,"seq":2,"created_at":-1,"ref_id":{}}"#,
        r#"{"user_id":1,"asset_id":1}"#,
        "{}",
        r#"{"user_id":null}"#,
        r#"{"user_id":0}"#,
        r#"{"user_id":9223372036854775808}"#,
        r#"{"user_id":1,"seq":1}"#,
        r#"{"user_id":1,"asset_id":null,"seq":1}"#,
        r#"{"user_id":1,"asset_id":2147483648}"#,
        r#"{"user_id":1,"asset_id":1,"avail":1,"frozen":1}"#,
        r#"{"user_id":1,"asset_id":1,"seq":1,"avail":1}"#,
        r#"{"user_id":1,"asset_id":1,"seq":1,"avail":1,"frozen":null}"#,
        r#"{"user_id":1,"asset_id":1,"seq":1,"avail":"1","frozen":"1"}"#,
        "[1,1,1,1,1,1]",
    ] {
        let taken = crate::domain::Notification::parse_notification(body).is_ok();
        assert_eq!(fits("Notification", body), taken, "{body}");
    }
    for body in [
        r#"{"user_id":1,"asset_id":1,"seq":1,"avail":-1,"frozen":0}"#,
        r#"{"user_id":1,"asset_id":1,"seq":1,"avail":-1,"frozen":0,"delta_avail":null,"delta_frozen":-5,"event_type":"é","ref_id":-9,"created_at":null}"#,
        r#"{"user_id":1,"asset_id":1,"seq":1,"avail":-1,"frozen":0,"delta_avail":9223372036854775808}"#,
        r#"{"user_id":1,"asset_id":1,"seq":1,"avail":-1,"frozen":null}"#,
        r#"{"user_id":1,"asset_id":1,"seq":1,"avail":-1}"#,
        r#"{"user_id":1,"asset_id":1,"seq":0,"avail":1,"frozen":1}"#,
        r#"{"user_id":1,"asset_id":1,"seq":1,"avail":-1,"frozen":0,"typo":1}"#,
        r#"{"user_id":1,"asset_id":1,"seq":1,"avail":-1,"frozen":0,"created_at":-1}"#,
        r#"{"user_id":1,"asset_id":1,"seq":1,"avail":-1,"frozen":0,"created_at":0}"#,
    ] {
        let taken = crate::domain::Entry::parse_entry(body).is_ok();
        assert_eq!(fits("LedgerEntry", body), taken, "{body}");
    }
}

#[test]
fn lists_of_users_that_the_parsers_take_fit_and_others_do_not() {
    let described = build_description(false);
    let fits = |name: &str, body: &str| {
        let schema = serde_json::json!({"$ref": format!("#/components/schemas/{name}")});
        described
            .faults(&schema, &serde_json::from_str(body).unwrap())
            .is_empty()
    };
    let many = format!(r#"{{"user_ids":[{}]}}"#, vec!["1"; 1_001].join(","));
    for body in [
        r#"{"user_ids":[]}"#,
        r#"{"user_ids":[1,9223372036854775807,1]}"#,
        r#"{"user_ids":[0]}"#,
        r#"{"user_ids":[1.5]}"#,
        r#"{"user_ids":["1"]}"#,
        r#"{"user_ids":[null]}"#,
        r#"{"user_ids":null}"#,
        "{}",
        r#"{"user_ids":[],"more":1}"#,
        "[[]]",
        many.as_str(),
    ] {
        let taken = crate::http::json::parse_users::<1_000>(body.as_bytes()).is_ok();
        assert_eq!(
            fits("Batch", body),
            taken,
            "{}",
            &body[..40.min(body.len())]
        );
        let floors = body.replace("\"more\":1", "\"floors\":null");
        let taken = crate::http::json::parse_invalidation(floors.as_bytes()).is_ok();
        assert_eq!(
            fits("Invalidation", &floors),
            taken,
            "{}",
            &floors[..40.min(floors.len())]
        );
    }
}
