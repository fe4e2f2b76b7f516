//! Names of the keyspace, its tables and their columns, as this database has them (`scylla.keyspace`, `scylla.names`).
//!
//! Statements are written with the names of `schema/` and `{ks}` for the keyspace; [`Names::fill_in`] puts the database's names in.
//!
//! **Invariants.** A name that comes from a setting stands in double quotes in a statement, and holds letters, digits and
//! underscores only: it cannot carry CQL. A column is renamed by the first table that its statement names. The view has the
//! ledger's columns.

use std::{borrow::Cow, collections::BTreeMap};

use super::table_names::{LEDGER, VIEW};
use crate::config::{self, BadSetting, TABLE_NAME_KEY};

/// The keyspace of every statement text.
const KEYSPACE_MARK: &str = "{ks}";

/// The database's names for ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    keyspace: String,
    /// By our table and our column, or [`TABLE_NAME_KEY`]: only those that differ.
    renamed: BTreeMap<String, BTreeMap<String, String>>,
}

impl Names {
    pub(super) fn new(settings: &config::ScyllaSettings) -> Result<Self, BadSetting> {
        if !config::is_cql_name(&settings.keyspace) {
            return Err(BadSetting::new("scylla.keyspace", config::CQL_NAME_RULE));
        }
        let mut renamed = BTreeMap::new();
        for (table, names) in &settings.names {
            let differs = |ours: &str, theirs: &str| {
                theirs != if ours == TABLE_NAME_KEY { table } else { ours }
            };
            let mut different = BTreeMap::new();
            for (ours, theirs) in names {
                if !config::is_cql_name(theirs) {
                    return Err(BadSetting::new("scylla.names", config::CQL_NAME_RULE));
                }
                if differs(ours, theirs) {
                    different.insert(ours.clone(), theirs.clone());
                }
            }
            renamed.insert(table.clone(), different);
        }
        Ok(Self {
            keyspace: settings.keyspace.clone(),
            renamed,
        })
    }

    /// The keyspace, as the schema tables spell it.
    pub(super) fn keyspace(&self) -> &str {
        &self.keyspace
    }

    /// The database's name of one of our tables.
    pub(super) fn table_name<'a>(&'a self, table: &'a str) -> &'a str {
        self.renamed_column(table, TABLE_NAME_KEY).unwrap_or(table)
    }

    /// The database's name of a column of one of our tables.
    pub(super) fn column_name<'a>(&'a self, table: &str, column: &'a str) -> &'a str {
        let table = if table == VIEW { LEDGER } else { table };
        self.renamed_column(table, column).unwrap_or(column)
    }

    /// A table for messages: the database's name, and ours behind it where they differ.
    pub(super) fn show_table<'a>(&self, table: &'a str) -> Cow<'a, str> {
        match self.renamed_column(table, TABLE_NAME_KEY) {
            None => table.into(),
            Some(theirs) => format!("{theirs} ({table})").into(),
        }
    }

    /// The statement with the database's names in the place of ours.
    pub(super) fn fill_in(&self, statement: &str) -> String {
        let table = first_table(statement).unwrap_or_default();
        let mut filled = String::with_capacity(statement.len());
        let mut rest = statement;
        while let Some((before, after)) = rest.split_once(KEYSPACE_MARK) {
            self.fill_columns(table, before, &mut filled);
            quote_name(&self.keyspace, &mut filled);
            rest = after;
            if let Some(after) = after.strip_prefix('.') {
                let (name, after) = after.split_at(word_length(after));
                filled.push('.');
                match self.renamed_column(name, TABLE_NAME_KEY) {
                    None => filled.push_str(name),
                    Some(theirs) => quote_name(theirs, &mut filled),
                }
                rest = after;
            }
        }
        self.fill_columns(table, rest, &mut filled);
        filled
    }

    /// Copies `text`, with the columns of `table` renamed. Text in single quotes stays.
    fn fill_columns(&self, table: &str, text: &str, filled: &mut String) {
        for (index, part) in text.split('\'').enumerate() {
            if index > 0 {
                filled.push('\'');
            }
            if index % 2 == 1 {
                filled.push_str(part);
                continue;
            }
            let mut rest = part;
            while !rest.is_empty() {
                let (word, after) = rest.split_at(word_length(rest));
                let theirs = self.column_name(table, word);
                if theirs == word {
                    filled.push_str(word);
                } else {
                    quote_name(theirs, filled);
                }
                let between = after.find(is_word).unwrap_or(after.len());
                let (between, after) = after.split_at(between);
                filled.push_str(between);
                rest = after;
            }
        }
    }

    fn renamed_column(&self, table: &str, column: &str) -> Option<&str> {
        self.renamed.get(table)?.get(column).map(String::as_str)
    }
}

fn quote_name(name: &str, into: &mut String) {
    into.push('"');
    into.push_str(name);
    into.push('"');
}

const fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn word_length(text: &str) -> usize {
    text.find(|letter| !is_word(letter)).unwrap_or(text.len())
}

/// The first table that a statement names.
fn first_table(statement: &str) -> Option<&str> {
    let (_, after) = statement.split_once(KEYSPACE_MARK)?;
    let after = after.strip_prefix('.')?;
    after.get(..word_length(after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::scylla::table_names::TABLE;

    fn test_names(changes: &[(&str, &str, &str)]) -> Names {
        let mut settings = config::default_settings().unwrap().scylla;
        "Trading_2".clone_into(&mut settings.keyspace);
        for (table, ours, theirs) in changes {
            let of_table = settings.names.get_mut(*table).unwrap();
            of_table.insert((*ours).to_owned(), (*theirs).to_owned());
        }
        Names::new(&settings).unwrap()
    }

    #[test]
    fn a_setting_cannot_carry_cql() {
        for bad in ["", "1a", "a-b", "a\"; DROP", "a b", &"a".repeat(49), "é"] {
            let mut settings = config::default_settings().unwrap().scylla;
            bad.clone_into(&mut settings.keyspace);
            assert!(Names::new(&settings).is_err(), "{bad:?}");
            let mut settings = config::default_settings().unwrap().scylla;
            let ledger = settings.names.get_mut(LEDGER).unwrap();
            ledger.insert("avail".to_owned(), bad.to_owned());
            assert!(Names::new(&settings).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn without_other_names_only_the_keyspace_is_filled_in() {
        let names = test_names(&[]);
        assert_eq!(
            names.fill_in("SELECT avail FROM {ks}.balance_ledger WHERE seq = ?"),
            "SELECT avail FROM \"Trading_2\".balance_ledger WHERE seq = ?"
        );
        assert_eq!(
            names.fill_in("CREATE KEYSPACE {ks} WITH x = {'class': 'a'}"),
            "CREATE KEYSPACE \"Trading_2\" WITH x = {'class': 'a'}"
        );
        assert_eq!(names.show_table(LEDGER), LEDGER);
    }

    #[test]
    fn tables_and_their_own_columns_are_renamed() {
        let names = test_names(&[
            (LEDGER, "table", "Events"),
            (LEDGER, "avail", "free"),
            (LEDGER, "user_id", "uid"),
            (TABLE, "avail", "balance"),
            (VIEW, "table", "events_by_user"),
        ]);
        assert_eq!(
            names.fill_in("SELECT WRITETIME(avail), avail_x FROM {ks}.balance_ledger WHERE user_id=? AND e = 'avail'"),
            "SELECT WRITETIME(\"free\"), avail_x FROM \"Trading_2\".\"Events\" WHERE \"uid\"=? AND e = 'avail'"
        );
        assert_eq!(
            names.fill_in("INSERT INTO {ks}.user_balances (user_id, avail) VALUES (?, ?)"),
            "INSERT INTO \"Trading_2\".user_balances (user_id, \"balance\") VALUES (?, ?)"
        );
        assert_eq!(
            names.fill_in("CREATE MATERIALIZED VIEW {ks}.user_balances_by_user AS SELECT avail FROM {ks}.balance_ledger PRIMARY KEY ((user_id))"),
            "CREATE MATERIALIZED VIEW \"Trading_2\".\"events_by_user\" AS SELECT \"free\" FROM \"Trading_2\".\"Events\" \
             PRIMARY KEY ((\"uid\"))"
        );
        assert_eq!(names.show_table(LEDGER), "Events (balance_ledger)");
        assert_eq!(names.column_name(VIEW, "avail"), "free");
    }
}
