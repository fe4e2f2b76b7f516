//! What became of a transaction, and what stands under its id.

use std::fmt;

use crate::domain::{
    AssetId, Entry, Notification, PostedBalance, Refusal, Said, Seq, UnixMillis, UserId,
};

/// What became of one transaction of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It stands since now.
    Written(Receipt),
    /// It stood already: the seqs and balances of the first time.
    Repeated(Receipt),
    /// A balance refuses it: nothing of it stands.
    Refused(Refusal),
    /// It contradicts what stands: nothing of it was written.
    Conflict(Conflict),
}

/// The rows that a transaction wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipt {
    /// By user and asset.
    pub balances: Vec<PostedBalance>,
    /// `created_at` of all of them.
    pub created_at: UnixMillis,
}

/// Why a transaction contradicts what stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// Its id stands with other content.
    OtherContent,
    /// A row that it brings has a seq that stands with other amounts.
    SeqTaken {
        /// Whose row.
        user: UserId,
        /// In what.
        asset: AssetId,
        /// Which.
        seq: Seq,
    },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherContent => write!(f, "the id stands with other content"),
            Self::SeqTaken { user, asset, seq } => write!(
                f,
                "user {user}, asset {asset}: seq {seq} is taken by other amounts"
            ),
        }
    }
}

/// What stands under an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTransaction {
    /// Canonical JSON of what was sent.
    pub content: String,
    /// What it wrote.
    pub receipt: Receipt,
}

impl Receipt {
    /// Of these rows; `now` where they say no time.
    #[must_use]
    pub fn of(rows: &[Entry], now: UnixMillis) -> Self {
        let created_at = rows.first().and_then(|row| row.created_at);
        Self {
            balances: rows.iter().map(PostedBalance::from).collect(),
            created_at: created_at.unwrap_or(now),
        }
    }

    /// The balances as notifications.
    pub fn notifications(&self) -> impl Iterator<Item = Notification> + '_ {
        self.balances.iter().map(|balance| Notification {
            user: balance.user_id,
            said: Said::Values {
                asset: balance.asset_id,
                seq: balance.seq,
                avail: balance.avail,
                frozen: balance.frozen,
            },
            created_at: Some(self.created_at),
        })
    }
}
