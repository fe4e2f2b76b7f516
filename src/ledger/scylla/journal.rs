//! The journal: one ordered log of records, each appended by one lightweight transaction.
//!
//! Position 0 of the partition holds the tail, the highest position that was given away. An append sets it from what the writer
//! judged by to one more, and writes the record, in one conditional batch. So the order of records is the order in which they
//! were judged. A writer that does not know the newest record appends nothing, so two instances never assign one seq.
//!
//! **Invariants.** A record that was appended stands. It is removed only when all of it is written and in effect everywhere. All
//! positions up to `removed` are.
//!
//! **Limits.** A read of records is one page of [`PAGE`].

use scylla::{
    DeserializeRow,
    statement::{
        Consistency, SerialConsistency,
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
    value::{CqlValue, Row as AnyRow},
};

use super::{
    names::Names,
    prepared::Journal,
    record::JournalRecord,
    statements::{LiveSession, prepare_failed, rows_of, statement_error, unreadable_row},
};
use crate::ledger::LedgerError;

/// The only journal. A column, so that there may be more.
const JOURNAL: i32 = 0;
/// The position of the tail.
const TAIL: i64 = 0;
/// Records of one read.
pub(super) const PAGE: usize = 64;

/// The consistency levels that a decision needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct QuorumReach {
    /// The level of reads and writes on which a decision depends.
    pub(super) consistency: Consistency,
    /// The level of lightweight transactions.
    pub(super) serial: SerialConsistency,
}

impl QuorumReach {
    /// Within one datacenter where the settings name it and ask for its quorum only; else everywhere.
    pub(super) fn of_settings(configured: Consistency, names_datacenter: bool) -> Self {
        match configured {
            Consistency::All => Self {
                consistency: Consistency::All,
                serial: SerialConsistency::Serial,
            },
            Consistency::LocalQuorum | Consistency::LocalOne if names_datacenter => Self {
                consistency: Consistency::LocalQuorum,
                serial: SerialConsistency::LocalSerial,
            },
            _ => Self {
                consistency: Consistency::Quorum,
                serial: SerialConsistency::Serial,
            },
        }
    }

    const fn serial_read(self) -> Consistency {
        match self.serial {
            SerialConsistency::Serial => Consistency::Serial,
            SerialConsistency::LocalSerial => Consistency::LocalSerial,
        }
    }

    /// Prepares a statement that may be sent twice.
    pub(super) async fn prepare_statement(
        self,
        live: &LiveSession,
        names: &Names,
        text: &str,
    ) -> Result<PreparedStatement, LedgerError> {
        let prepared = live.session.prepare(names.fill_in(text)).await;
        let mut statement = prepared.map_err(|error| prepare_failed(&error))?;
        statement.set_is_idempotent(true);
        statement.set_consistency(self.consistency);
        Ok(statement)
    }
}

/// The end of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct JournalTail {
    /// The highest position that was given away; 0: none.
    pub(super) position: i64,
    /// All positions up to it are removed.
    pub(super) removed: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    /// The record stands.
    Stands,
    /// The tail is another one; nothing was written.
    Behind,
}

#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct TailRow {
    tail: Option<i64>,
    removed: Option<i64>,
}

#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct RecordRow {
    position: i64,
    record: Option<String>,
}

impl Journal {
    pub(super) async fn prepare_journal(
        live: &LiveSession,
        names: &Names,
        reach: QuorumReach,
    ) -> Result<Self, LedgerError> {
        let prepare = async |text| reach.prepare_statement(live, names, text).await;
        let advance = prepare(
            "UPDATE {ks}.ledger_journal SET tail = ?, removed = ? WHERE journal = ? AND position = ? IF tail = ?",
        )
        .await?;
        let write =
            prepare("INSERT INTO {ks}.ledger_journal (journal, position, record) VALUES (?, ?, ?)")
                .await?;
        let mut append = Batch::new(BatchType::Unlogged);
        append.append_statement(advance);
        append.append_statement(write);
        append.set_consistency(reach.consistency);
        append.set_serial_consistency(Some(reach.serial));
        // A second copy of it, sent to another node, would find the first one's tail.
        append.set_is_idempotent(false);
        let mut tail = prepare(
            "SELECT tail, removed FROM {ks}.ledger_journal WHERE journal = ? AND position = ?",
        )
        .await?;
        tail.set_consistency(reach.serial_read());
        Ok(Self {
            append,
            tail,
            records: prepare(&format!(
                "SELECT position, record FROM {{ks}}.ledger_journal \
                 WHERE journal = ? AND position > ? AND position <= ? LIMIT {PAGE}"
            ))
            .await?,
            remove: prepare("DELETE FROM {ks}.ledger_journal WHERE journal = ? AND position = ?")
                .await?,
        })
    }

    /// The tail, and with it everything that was appended before: an append that was under way stands by now, or never will.
    pub(super) async fn read_tail(&self, live: &LiveSession) -> Result<JournalTail, LedgerError> {
        let rows = live.query_rows(&self.tail, (JOURNAL, TAIL)).await?;
        let row = rows.maybe_first_row::<TailRow>().map_err(unreadable_row)?;
        Ok(row.map_or_else(JournalTail::default, |row| JournalTail {
            position: row.tail.unwrap_or_default(),
            removed: row.removed.unwrap_or_default(),
        }))
    }

    /// The records above a position and up to another that are not removed, the lowest [`PAGE`] of them.
    pub(super) async fn read_page(
        &self,
        live: &LiveSession,
        above: i64,
        to: i64,
    ) -> Result<Vec<(i64, JournalRecord)>, LedgerError> {
        let rows = live.query_rows(&self.records, (JOURNAL, above, to)).await?;
        let mut records = Vec::with_capacity(rows.rows_num());
        for row in rows.rows::<RecordRow>().map_err(unreadable_row)? {
            let row = row.map_err(unreadable_row)?;
            let text = row.record.unwrap_or_default();
            records.push((row.position, JournalRecord::from_text(&text)?));
        }
        Ok(records)
    }

    /// All of them.
    pub(super) async fn read_records(
        &self,
        live: &LiveSession,
        mut above: i64,
        to: i64,
    ) -> Result<Vec<(i64, JournalRecord)>, LedgerError> {
        let mut all = Vec::new();
        while above < to {
            let page = self.read_page(live, above, to).await?;
            let whole = page.len() < PAGE;
            above = page.last().map_or(to, |(position, _)| *position);
            all.extend(page);
            if whole {
                break;
            }
        }
        Ok(all)
    }

    /// Appends a record behind this tail.
    pub(super) async fn append_record(
        &self,
        live: &LiveSession,
        tail: JournalTail,
        position: i64,
        record: &str,
    ) -> Result<Appended, LedgerError> {
        live.count_one();
        let expected = (tail.position > 0).then_some(tail.position);
        let advance = (position, tail.removed, JOURNAL, TAIL, expected);
        let write = (JOURNAL, position, record);
        let sent = live.session.batch(&self.append, (advance, write)).await;
        let result = rows_of(sent.map_err(|error| statement_error(&error))?)?;
        // The databases differ in the columns that follow the first.
        let mut rows = result.rows::<AnyRow>().map_err(unreadable_row)?;
        let first = rows.next().transpose().map_err(unreadable_row)?;
        let applied = first.and_then(|row| row.columns.into_iter().next().flatten());
        match applied {
            Some(CqlValue::Boolean(true)) => Ok(Appended::Stands),
            Some(CqlValue::Boolean(false)) => Ok(Appended::Behind),
            _ => Err(unreadable_row("an append was answered without [applied]")),
        }
    }

    /// Removes a record that is in effect everywhere.
    pub(super) async fn remove_record(
        &self,
        live: &LiveSession,
        position: i64,
    ) -> Result<(), LedgerError> {
        live.run_statement(&self.remove, (JOURNAL, position))
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_reaches_one_datacenter_only_where_the_settings_name_it() {
        let of = |configured, named| {
            let reach = QuorumReach::of_settings(configured, named);
            (reach.consistency, reach.serial)
        };
        let local = (Consistency::LocalQuorum, SerialConsistency::LocalSerial);
        let everywhere = (Consistency::Quorum, SerialConsistency::Serial);
        assert_eq!(of(Consistency::LocalQuorum, true), local);
        assert_eq!(of(Consistency::LocalOne, true), local);
        assert_eq!(of(Consistency::LocalQuorum, false), everywhere);
        assert_eq!(of(Consistency::One, true), everywhere);
        assert_eq!(
            of(Consistency::All, true),
            (Consistency::All, SerialConsistency::Serial)
        );
    }
}
