//! How much of the ledger the view shows, without counting either (seed fault 11): a few partitions of the ledger from
//! evenly spread places of the token ring, and whether the newest row of each is in the view.
//!
//! **Limits.** [`PLACES`] × [`EACH`] partitions, one row of each. A row that was written a moment ago may be missing.

use std::{collections::HashSet, fmt};

use futures::{StreamExt, TryStreamExt, stream};
use scylla::client::session::Session;

use crate::ledger::{
    LedgerError,
    scylla::{
        names::Names,
        schema_state::query_rows,
        table_names::{LEDGER, VIEW},
    },
};

const PLACES: i64 = 32;
const EACH: i64 = 4;
const AT_ONCE: usize = 8;

/// A sample of the ledger, looked up in the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewSample {
    /// Partitions of the ledger whose newest row was looked for.
    pub checked: u64,
    /// Partitions among them whose newest row the view shows.
    pub found: u64,
}

impl ViewSample {
    /// Returns the share in percent; none for an empty ledger.
    pub fn present_percent(&self) -> Option<u64> {
        self.found.saturating_mul(100).checked_div(self.checked)
    }
}

impl fmt::Display for ViewSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { checked, found } = self;
        match self.present_percent() {
            Some(percent) => write!(
                f,
                "about {percent} % of the ledger ({found} of {checked} sampled)"
            ),
            None => f.write_str("the ledger is empty"),
        }
    }
}

pub(super) async fn sample_view(
    session: &Session,
    names: &Names,
) -> Result<ViewSample, LedgerError> {
    let text = names.fill_in(&format!(
        "SELECT user_id, asset_id, seq FROM {{ks}}.{LEDGER} \
         WHERE token(user_id, asset_id) >= ? PER PARTITION LIMIT 1 LIMIT {EACH}"
    ));
    let step = (i64::MAX / PLACES).saturating_mul(2);
    let places = (0..PLACES).map(|place| i64::MIN.saturating_add(place.saturating_mul(step)));
    let places: Vec<_> = places
        .map(|token| query_rows::<(i64, i32, i64)>(session, &text, (token,)))
        .collect();
    let rows: Vec<_> = stream::iter(places)
        .buffer_unordered(AT_ONCE)
        .try_concat()
        .await?;
    let rows: HashSet<_> = rows.into_iter().collect();
    let text = names.fill_in(&format!(
        "SELECT seq FROM {{ks}}.{VIEW} WHERE user_id = ? AND asset_id = ? AND seq = ?"
    ));
    let checked = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    let lookups: Vec<_> = rows
        .into_iter()
        .map(|row| query_rows::<(i64,)>(session, &text, row))
        .collect();
    let found: Vec<_> = stream::iter(lookups)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let found = found.into_iter().filter(|rows| !rows.is_empty()).count();
    Ok(ViewSample {
        checked,
        found: u64::try_from(found).unwrap_or(u64::MAX),
    })
}
