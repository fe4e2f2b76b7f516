//! Balances from somebody else's tables in PostgreSQL, and the outbox.

use super::SettingsCheck;
use crate::config::SourceKind;

/// A part that a statement has to have, and what is said where it is missing.
type RequiredClause = (&'static str, &'static str);

const USER: RequiredClause = ("$1", "must have the parameter $1, the user");
const ASSET: RequiredClause = ("$2", "must have the parameter $2, the asset");
const SEQ: RequiredClause = (
    "seq",
    "has no column seq, a number that rises with every change of the balance: without one an old balance cannot be told from a new one. docs/EXISTING_LEDGER.md adds it with a column and a trigger",
);

impl SettingsCheck<'_> {
    pub(super) fn mapped_ledger(&mut self) {
        let postgres = &self.settings.postgres;
        let needs: [(&str, &str, &[RequiredClause]); 4] = [
            (
                "postgres.balances_sql",
                &postgres.balances_sql,
                &[USER, SEQ],
            ),
            (
                "postgres.balance_sql",
                &postgres.balance_sql,
                &[USER, ASSET, SEQ],
            ),
            ("postgres.user_id_sql", &postgres.user_id_sql, &[USER]),
            (
                "postgres.outbox.user_id_sql",
                &postgres.outbox.user_id_sql,
                &[USER],
            ),
        ];
        for (key, sql, needed) in needs {
            let absent = needed.iter().find(|(part, _)| !sql.contains(part));
            if let (false, Some((_, why))) = (sql.trim().is_empty(), absent) {
                self.add_mistake(&[key], *why);
            }
        }
        self.require_that(
            &["postgres.balance_sql", "postgres.balances_sql"],
            postgres.is_mapped() || postgres.balance_sql.trim().is_empty(),
            "needs postgres.balances_sql beside it",
        );
        self.require_that(
            &["postgres.user_id_sql", "postgres.balances_sql"],
            postgres.is_mapped() || postgres.user_id_sql.trim().is_empty(),
            "needs postgres.balances_sql beside it",
        );
        self.outbox();
    }

    fn outbox(&mut self) {
        let outbox = &self.settings.postgres.outbox;
        self.require_that(
            &["postgres.outbox.enabled", "source.kind"],
            !outbox.enabled || self.settings.source.kind == SourceKind::Postgres,
            "needs source.kind = \"postgres\"",
        );
        for (key, name) in [
            ("postgres.outbox.table", &outbox.table),
            ("postgres.outbox.user_column", &outbox.user_column),
            ("postgres.outbox.asset_column", &outbox.asset_column),
        ] {
            self.require_that(
                &[key],
                (1..=63).contains(&name.len()) && !name.contains(char::is_control),
                "must be a name as the database has it, without quotes and without a schema (postgres.schema)",
            );
        }
    }
}
