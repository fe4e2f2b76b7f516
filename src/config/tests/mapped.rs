//! Balances from an operator's own tables, and the outbox.

use super::load_text;

#[test]
fn a_ledger_of_another_shape_needs_a_seq_and_its_parameters() {
    let told = |text: &str| {
        let refused = load_text(text, &[]).unwrap_err().to_string();
        refused.replace('\n', " ")
    };
    let kind = "[source]\nkind = \"postgres\"\n[postgres]\n";
    let good = "balances_sql = \"SELECT a AS asset_id, b AS avail, c AS frozen, v AS seq FROM t WHERE u = $1\"\n";
    assert!(
        load_text(&format!("{kind}{good}"), &[])
            .unwrap()
            .shows_balances_only()
    );
    let without_seq = good.replace("seq", "version");
    assert!(told(&format!("{kind}{without_seq}")).contains("has no column seq"));
    let without_user = good.replace("$1", "7");
    assert!(told(&format!("{kind}{without_user}")).contains("parameter $1"));
    let alone = "user_id_sql = \"SELECT id FROM u WHERE n = $1\"\n";
    assert!(told(&format!("{kind}{alone}")).contains("needs postgres.balances_sql"));
    let outbox = "[postgres.outbox]\nenabled = true\n";
    assert!(told(outbox).contains("source.kind"));
    assert!(
        told(&format!("{kind}[postgres.outbox]\ntable = \"\"\n"))
            .contains("as the database has it")
    );
}
