//! A change of one balance, in the form in which every tier applies it.

use crate::domain::{AssetId, Balance, Notification, NotifiedChange, Seq, UnixMillis};

/// A change of one user's balances. The changes of one request become visible together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BalanceChange {
    /// The balance in this asset is at `seq`.
    Moved {
        asset: AssetId,
        seq: Seq,
        /// The balance itself, where the notification carried it.
        balance: Option<Balance>,
    },
    /// The balance in this asset (or in any) changed to an amount that is not known: it is read again from the ledger.
    Unknown {
        /// The asset; none stands for all of them.
        asset: Option<AssetId>,
    },
}

impl BalanceChange {
    /// The change that a notification tells, heard at that moment of the wall clock.
    pub const fn of_notification(notification: &Notification, heard_at: UnixMillis) -> Self {
        match notification.said {
            NotifiedChange::Values { asset, seq, .. } => Self::Moved {
                asset,
                seq,
                balance: notification.carried_balance(heard_at),
            },
            NotifiedChange::Seq { asset, seq } => Self::Moved {
                asset,
                seq,
                balance: None,
            },
            NotifiedChange::Asset { asset } => Self::Unknown { asset: Some(asset) },
            NotifiedChange::User => Self::Unknown { asset: None },
        }
    }
}
