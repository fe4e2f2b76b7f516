//! The result of a transaction, and the record that stands under its id.

use std::fmt;

use crate::domain::{
    Amount, AssetId, Entry, MalformedId, Notification, NotifiedChange, PostedBalance,
    PostingRefusal, Seq, UnixMillis, UserId,
};

/// The result of one transaction of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleOutcome {
    /// It stands since now.
    Written(Receipt),
    /// It stood already: the seqs and balances of the first time.
    Repeated(Receipt),
    /// A balance refuses it: nothing of it stands.
    Refused(PostingRefusal),
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
        user: UserId,
        asset: AssetId,
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

/// How far a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleState {
    /// It stands whole.
    Done,
    /// Its id is claimed, and not all of it is known to stand.
    Pending,
}

/// The record under an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTransaction {
    /// How far it is.
    pub state: SettleState,
    /// Canonical JSON of what was sent.
    pub content: String,
    /// The rows that it wrote.
    pub receipt: Receipt,
}

/// One balance as it is stored: user, asset, seq, avail, frozen.
type Plain = (i64, i32, i64, i64, i64);

pub fn balances_to_text(balances: &[PostedBalance]) -> String {
    let plain = |balance: &PostedBalance| -> Plain {
        (
            balance.user_id.get(),
            balance.asset_id.get(),
            balance.seq.get(),
            balance.avail.raw(),
            balance.frozen.raw(),
        )
    };
    let all: Vec<Plain> = balances.iter().map(plain).collect();
    // Numbers are always JSON.
    serde_json::to_string(&all).unwrap_or_default()
}

/// Reads back what [`balances_to_text`] wrote.
/// Errors: the mistake, for the log.
pub fn balances_from_text(text: &str) -> Result<Vec<PostedBalance>, String> {
    let all: Vec<Plain> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let balance = |(user, asset, seq, avail, frozen): Plain| -> Result<_, MalformedId> {
        Ok(PostedBalance {
            user_id: UserId::new(user)?,
            asset_id: AssetId::new(asset)?,
            seq: Seq::new(seq)?,
            avail: Amount::from_raw(avail),
            frozen: Amount::from_raw(frozen),
        })
    };
    let balances: Result<Vec<_>, MalformedId> = all.into_iter().map(balance).collect();
    balances.map_err(|malformed| malformed.to_string())
}

impl Receipt {
    /// Makes the receipt of these rows; `now` is used if they have no time.
    pub fn of_rows(rows: &[Entry], now: UnixMillis) -> Self {
        let created_at = rows.first().and_then(|row| row.created_at);
        Self {
            balances: rows.iter().map(PostedBalance::from).collect(),
            created_at: created_at.unwrap_or(now),
        }
    }

    pub fn notifications(&self) -> impl Iterator<Item = Notification> + '_ {
        self.balances.iter().map(|balance| Notification {
            user: balance.user_id,
            said: NotifiedChange::Values {
                asset: balance.asset_id,
                seq: balance.seq,
                avail: balance.avail,
                frozen: balance.frozen,
            },
            created_at: Some(self.created_at),
        })
    }
}
