//! An entry of the journal: transactions with all of their rows, as JSON.
//!
//! **Invariants.** A record holds everything that has to be written for it: every instance that reads it can complete it, and
//! writes the same whenever it is completed. A record of another version is refused, not guessed at.

use serde::{Deserialize, Serialize};

use super::statements::unreadable_row;
use crate::{
    domain::{
        Amount, AssetId, Entry, MalformedId, Notification, Reference, Seq, Trade, TradeId,
        TransactionId, UnixMillis, UserId,
    },
    ledger::LedgerError,
};

pub(super) use crate::ledger::item::{Claim, Item, RowToWrite};

/// The form of the records that this version writes and reads.
const VERSION: u8 = 1;

/// The content of one append to the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JournalRecord {
    /// Tells the record from every other one, also where the answer to its append was lost.
    pub(super) token: u64,
    pub(super) items: Vec<Item>,
}

impl JournalRecord {
    pub(super) fn rows(&self) -> impl Iterator<Item = &RowToWrite> {
        self.items.iter().flat_map(|item| &item.rows)
    }

    pub(super) fn references(&self) -> impl Iterator<Item = Reference> {
        let claims = self.items.iter().filter_map(|item| item.claim.as_ref());
        claims.map(|claim| claim.reference)
    }

    pub(super) fn notifications(&self) -> impl Iterator<Item = Notification> {
        self.rows().map(|row| Notification::from(&row.entry))
    }

    pub(super) fn to_text(&self) -> Result<String, LedgerError> {
        serde_json::to_string(&RecordWire::from(self)).map_err(unreadable_row)
    }

    /// Reads back what [`JournalRecord::to_text`] wrote.
    pub(super) fn from_text(text: &str) -> Result<Self, LedgerError> {
        let wire: RecordWire = serde_json::from_str(text).map_err(unreadable_row)?;
        if wire.version != VERSION {
            let other = wire.version;
            return Err(unreadable_row(format!(
                "ledger_journal: a record of version {other}"
            )));
        }
        let items: Result<_, MalformedId> = wire.items.into_iter().map(Item::try_from).collect();
        Ok(Self {
            token: wire.token,
            items: items.map_err(unreadable_row)?,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct RecordWire {
    version: u8,
    token: u64,
    items: Vec<ItemWire>,
}

#[derive(Serialize, Deserialize)]
struct ItemWire {
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<ClaimWire>,
    rows: Vec<RowWire>,
}

#[derive(Serialize, Deserialize)]
struct ClaimWire {
    is_trade: bool,
    id: i64,
    content: String,
    created_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trade: Option<JournalTrade>,
}

/// symbol, price, quantity, cost, buyer, seller, the buyer's order, the seller's order.
type JournalTrade = (i32, i64, i64, i64, i64, i64, Option<i64>, Option<i64>);

#[derive(Serialize, Deserialize)]
struct RowWire {
    /// user, asset, seq, avail, frozen
    balance: (i64, i32, i64, i64, i64),
    /// avail, frozen
    deltas: (Option<i64>, Option<i64>),
    event_type: Option<String>,
    ref_id: Option<i64>,
    created_at: Option<i64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stood: bool,
}

impl From<&JournalRecord> for RecordWire {
    fn from(record: &JournalRecord) -> Self {
        Self {
            version: VERSION,
            token: record.token,
            items: record.items.iter().map(ItemWire::from).collect(),
        }
    }
}

impl From<&Item> for ItemWire {
    fn from(item: &Item) -> Self {
        Self {
            claim: item.claim.as_ref().map(ClaimWire::from),
            rows: item.rows.iter().map(RowWire::from).collect(),
        }
    }
}

impl From<&Claim> for ClaimWire {
    fn from(claim: &Claim) -> Self {
        let terms = |trade: &Trade| {
            (
                trade.symbol_id,
                trade.price,
                trade.quantity,
                trade.cost,
                trade.buyer.get(),
                trade.seller.get(),
                trade.buyer_order,
                trade.seller_order,
            )
        };
        Self {
            is_trade: matches!(claim.reference, Reference::Trade(_)),
            id: claim.reference.id(),
            content: claim.content.clone(),
            created_at: claim.created_at.0,
            trade: claim.trade.as_ref().map(terms),
        }
    }
}

impl From<&RowToWrite> for RowWire {
    fn from(RowToWrite { entry, stood }: &RowToWrite) -> Self {
        let raw = |amount: Option<Amount>| amount.map(Amount::raw);
        Self {
            balance: (
                entry.user.get(),
                entry.asset.get(),
                entry.seq.get(),
                entry.avail.raw(),
                entry.frozen.raw(),
            ),
            deltas: (raw(entry.delta_avail), raw(entry.delta_frozen)),
            event_type: entry.event_type.clone(),
            ref_id: entry.ref_id,
            created_at: entry.created_at.map(|UnixMillis(at)| at),
            stood: *stood,
        }
    }
}

impl TryFrom<ItemWire> for Item {
    type Error = MalformedId;

    fn try_from(wire: ItemWire) -> Result<Self, MalformedId> {
        let rows: Result<_, MalformedId> =
            wire.rows.into_iter().map(RowToWrite::try_from).collect();
        Ok(Self {
            claim: wire.claim.map(Claim::try_from).transpose()?,
            rows: rows?,
        })
    }
}

impl TryFrom<ClaimWire> for Claim {
    type Error = MalformedId;

    fn try_from(wire: ClaimWire) -> Result<Self, MalformedId> {
        let created_at = UnixMillis(wire.created_at);
        let trade = |terms: JournalTrade| -> Result<Trade, MalformedId> {
            let (symbol_id, price, quantity, cost, buyer, seller, buyer_order, seller_order) =
                terms;
            Ok(Trade {
                id: TradeId::new(wire.id)?,
                symbol_id,
                buyer: UserId::new(buyer)?,
                seller: UserId::new(seller)?,
                price,
                quantity,
                cost,
                buyer_order,
                seller_order,
                settled_at: created_at,
            })
        };
        Ok(Self {
            reference: if wire.is_trade {
                Reference::Trade(TradeId::new(wire.id)?)
            } else {
                Reference::Transaction(TransactionId::new(wire.id)?)
            },
            content: wire.content,
            created_at,
            trade: wire.trade.map(trade).transpose()?,
        })
    }
}

impl TryFrom<RowWire> for RowToWrite {
    type Error = MalformedId;

    fn try_from(wire: RowWire) -> Result<Self, MalformedId> {
        let (user, asset, seq, avail, frozen) = wire.balance;
        Ok(Self {
            entry: Entry {
                user: UserId::new(user)?,
                asset: AssetId::new(asset)?,
                seq: Seq::new(seq)?,
                avail: Amount::from_raw(avail),
                frozen: Amount::from_raw(frozen),
                delta_avail: wire.deltas.0.map(Amount::from_raw),
                delta_frozen: wire.deltas.1.map(Amount::from_raw),
                event_type: wire.event_type,
                ref_id: wire.ref_id,
                created_at: wire.created_at.map(UnixMillis),
            },
            stood: wire.stood,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_as_it_was_and_another_version_is_refused() {
        let row = RowToWrite {
            entry: Entry {
                user: UserId::new(7).unwrap(),
                asset: AssetId::new(2).unwrap(),
                seq: Seq::new(3).unwrap(),
                avail: Amount::from_raw(i64::MIN),
                frozen: Amount::from_raw(1),
                delta_avail: Some(Amount::from_raw(-4)),
                delta_frozen: None,
                event_type: Some("trade".to_owned()),
                ref_id: Some(9),
                created_at: Some(UnixMillis(77)),
            },
            stood: true,
        };
        let trade = Trade {
            id: TradeId::new(9).unwrap(),
            symbol_id: 1,
            buyer: UserId::new(7).unwrap(),
            seller: UserId::new(8).unwrap(),
            price: 5,
            quantity: 6,
            cost: 7,
            buyer_order: Some(8),
            seller_order: None,
            settled_at: UnixMillis(77),
        };
        let claim = Claim {
            reference: Reference::Trade(trade.id),
            content: "{\"a\":\"ü\"}".to_owned(),
            created_at: UnixMillis(77),
            trade: Some(trade),
        };
        let items = vec![
            Item {
                claim: Some(claim),
                rows: vec![row.clone()],
            },
            Item {
                claim: None,
                rows: vec![row],
            },
        ];
        let record = JournalRecord {
            token: u64::MAX,
            items,
        };
        let text = record.to_text().unwrap();
        assert_eq!(JournalRecord::from_text(&text).unwrap(), record);
        let newer = text.replace("\"version\":1", "\"version\":2");
        for bad in [newer.as_str(), "", "{}", "[]"] {
            assert!(JournalRecord::from_text(bad).is_err(), "{bad}");
        }
    }
}
