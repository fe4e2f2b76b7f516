//! How far a backfill is, as its tool writes it into Redis and instances read it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::telemetry::BackfillTarget;

/// How long the progress of a running backfill is shown after it was written last.
pub const RUNNING_TTL: Duration = Duration::from_secs(15);
/// How long the end of a backfill is shown.
pub const ENDED_TTL: Duration = Duration::from_hours(1);

/// The state of a backfill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackfillPhase {
    /// Rows are written.
    Copying,
    /// Both tables are compared.
    Comparing,
    /// It ended, and both tables hold the same.
    Done,
    /// It ended, and the tables differ or rows were left out.
    Different,
    /// It ended before the tables were compared.
    Failed,
}

impl BackfillPhase {
    /// Whether it goes on.
    #[must_use]
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Copying | Self::Comparing)
    }
}

/// How far a backfill is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillProgress {
    /// The state.
    pub phase: BackfillPhase,
    /// Parts of the token ring.
    pub parts: u64,
    /// Parts that are copied, over all runs.
    pub copied_parts: u64,
    /// Parts that are compared, of both tables: twice `parts` in the end.
    pub compared_parts: u64,
    /// Rows of the source, over all runs.
    pub rows: u64,
    /// Rows of the source in a second, in this run.
    pub rows_per_second: u64,
    /// The time that the rest of the copy will take. Absent before this run finished a part, and after the copy.
    pub seconds_left: Option<u64>,
    /// When it was written, by the clock of the tool: ms since 1970.
    pub at: i64,
}

impl BackfillProgress {
    /// The part that is copied, in thousandths.
    #[must_use]
    pub fn copied_permille(&self) -> u32 {
        permille_of(self.copied_parts, self.parts)
    }

    /// The part that is compared, in thousandths.
    #[must_use]
    pub fn compared_permille(&self) -> u32 {
        permille_of(self.compared_parts, self.parts.saturating_mul(2))
    }
}

fn permille_of(done: u64, all: u64) -> u32 {
    let permille = done.saturating_mul(1_000).checked_div(all).unwrap_or(0);
    u32::try_from(permille.min(1_000)).unwrap_or(1_000)
}

/// The backfills that Redis knows of, by their tables.
pub type KnownBackfills = Vec<(BackfillTarget, BackfillProgress)>;

#[cfg(test)]
mod tests {
    use super::*;

    fn progress_of(parts: u64, copied_parts: u64, compared_parts: u64) -> BackfillProgress {
        BackfillProgress {
            phase: BackfillPhase::Copying,
            parts,
            copied_parts,
            compared_parts,
            rows: 0,
            rows_per_second: 0,
            seconds_left: None,
            at: 0,
        }
    }

    #[test]
    fn shares_are_of_all_parts_and_never_above_the_whole() {
        for (parts, copied, compared, permille) in [
            (0, 0, 0, (0, 0)),
            (8, 2, 0, (250, 0)),
            (8, 8, 4, (1_000, 250)),
            (8, 9, 17, (1_000, 1_000)),
            (u64::MAX, u64::MAX, 0, (1, 0)),
        ] {
            let progress = progress_of(parts, copied, compared);
            let found = (progress.copied_permille(), progress.compared_permille());
            assert_eq!(found, permille, "{parts} {copied} {compared}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = BackfillProgress {
            seconds_left: Some(7),
            ..progress_of(1_024, 17, 0)
        };
        let text = serde_json::to_string(&written).unwrap();
        assert!(
            text.starts_with(r#"{"phase":"copying","parts":1024,"copied_parts":17,"#),
            "{text}"
        );
        assert_eq!(
            serde_json::from_str::<BackfillProgress>(&text).unwrap(),
            written
        );
    }
}
