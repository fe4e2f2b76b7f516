//! A settlement telling that a balance changed.

use std::collections::HashMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::domain::{Amount, AssetId, Balance, Entry, MalformedId, Seq, UnixMillis, UserId};

/// Notifications in one entry of a stream.
pub const ARRAY_MAX: usize = 10_000;

/// The content of a notification beside the user. The more it says, the cheaper it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifiedChange {
    /// Everything: what is held may be moved forward in place.
    Values {
        asset: AssetId,
        seq: Seq,
        avail: Amount,
        frozen: Amount,
    },
    /// The version only: the floor rises.
    Seq { asset: AssetId, seq: Seq },
    /// The asset only: it is read again from the ledger.
    Asset { asset: AssetId },
    /// Nothing: all of the user's assets are read again from the ledger.
    User,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    /// Whose balance changed.
    pub user: UserId,
    /// The knowledge of it.
    pub said: NotifiedChange,
    /// When it was settled, where the notification says so.
    pub created_at: Option<UnixMillis>,
}

/// [`Notification`] as JSON or stream fields, before it is checked. Unknown fields are ignored, null is absent.
#[derive(Debug, Default, Clone, Copy, Deserialize, ToSchema)]
pub struct NotificationWire {
    /// Whose balance changed.
    #[schema(value_type = i64, minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    pub user_id: Option<i64>,
    /// The asset.
    #[schema(minimum = 1_i64, maximum = 2_147_483_647_i64)]
    pub asset_id: Option<i64>,
    /// Its new version; needs the asset.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    pub seq: Option<i64>,
    /// The new balance in raw units, the asset's smallest (with 8 decimals, 920000000000 is "9200" in an answer); needs seq and `frozen`.
    #[schema(minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    pub avail: Option<i64>,
    /// The new hold in raw units; needs seq and `avail`.
    #[schema(minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    pub frozen: Option<i64>,
    /// When it was settled: milliseconds since 1970.
    #[schema(minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    pub created_at: Option<i64>,
}

impl Notification {
    /// The notification in one JSON object.
    /// Errors: the mistake, for the caller to read.
    pub fn parse_notification(json: &str) -> Result<Self, String> {
        parse_object::<NotificationWire>(json)?.check_fields()
    }

    /// The seq and asset that it raises a floor to, if it does.
    pub const fn raised_floor(&self) -> Option<(AssetId, Seq)> {
        match self.said {
            NotifiedChange::Values { asset, seq, .. } | NotifiedChange::Seq { asset, seq } => {
                Some((asset, seq))
            }
            NotifiedChange::Asset { .. } | NotifiedChange::User => None,
        }
    }

    /// The balance that it carries, if it does.
    pub const fn carried_balance(&self, heard_at: UnixMillis) -> Option<Balance> {
        match self.said {
            NotifiedChange::Values {
                asset,
                seq,
                avail,
                frozen,
            } => Some(Balance {
                asset,
                seq,
                avail,
                frozen,
                updated_at: self.created_at,
                said_at: heard_at,
            }),
            NotifiedChange::Seq { .. } | NotifiedChange::Asset { .. } | NotifiedChange::User => {
                None
            }
        }
    }
}

/// One JSON object that `parse` reads, or an array of up to [`ARRAY_MAX`] of them, checked whole.
pub(super) fn parse_each(
    json: &str,
    parse: impl Fn(&str) -> Result<Notification, String>,
) -> Result<Vec<Notification>, String> {
    if !json.trim_start().starts_with('[') {
        return Ok(vec![parse(json)?]);
    }
    let raws: Vec<&RawValue> = super::parse_json(json.as_bytes())?;
    if raws.len() > ARRAY_MAX {
        return Err(format!("more than {ARRAY_MAX} elements"));
    }
    let mut amounts = HashMap::new();
    let mut all = Vec::with_capacity(raws.len());
    for (index, raw) in raws.into_iter().enumerate() {
        let notification = parse(raw.get()).map_err(|what| format!("element {index}: {what}"))?;
        if let NotifiedChange::Values {
            asset,
            seq,
            avail,
            frozen,
        } = notification.said
            && amounts
                .insert((notification.user, asset, seq), (avail, frozen))
                .is_some_and(|before| before != (avail, frozen))
        {
            return Err(format!(
                "element {index}: its seq has other amounts earlier in this entry"
            ));
        }
        all.push(notification);
    }
    Ok(all)
}

/// One JSON object (serde would take an array of the fields' values too), or what is wrong with it, for its sender.
pub(super) fn parse_object<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    if !json.trim_start().starts_with('{') {
        return Err("must be an object".to_owned());
    }
    super::parse_json(json.as_bytes())
}

impl From<&Entry> for Notification {
    fn from(entry: &Entry) -> Self {
        let Entry {
            user,
            asset,
            seq,
            avail,
            frozen,
            created_at,
            ..
        } = *entry;
        Self {
            user,
            said: NotifiedChange::Values {
                asset,
                seq,
                avail,
                frozen,
            },
            created_at,
        }
    }
}

impl NotificationWire {
    /// The notification, checked.
    /// Errors: the mistake, for the caller to read.
    pub fn check_fields(self) -> Result<Notification, String> {
        let text = |malformed: MalformedId| malformed.to_string();
        let user = UserId::try_from(self.user_id.ok_or("user_id is missing")?).map_err(text)?;
        let asset = self
            .asset_id
            .map(AssetId::try_from)
            .transpose()
            .map_err(text)?;
        let seq = self.seq.map(Seq::try_from).transpose().map_err(text)?;
        let amounts = match (self.avail, self.frozen) {
            (Some(avail), Some(frozen)) => {
                Some((Amount::from_raw(avail), Amount::from_raw(frozen)))
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                let (given, missing) = if self.avail.is_some() {
                    ("avail", "frozen")
                } else {
                    ("frozen", "avail")
                };
                return Err(format!(
                    "{missing} is missing: it goes together with {given}"
                ));
            }
        };
        let said = match (asset, seq, amounts) {
            (Some(asset), Some(seq), Some((avail, frozen))) => NotifiedChange::Values {
                asset,
                seq,
                avail,
                frozen,
            },
            (Some(asset), Some(seq), None) => NotifiedChange::Seq { asset, seq },
            (Some(asset), None, None) => NotifiedChange::Asset { asset },
            (None, None, None) => NotifiedChange::User,
            (_, None, Some(_)) => return Err("seq is missing: avail and frozen need it".to_owned()),
            (None, Some(_), _) => return Err("asset_id is missing: seq needs it".to_owned()),
        };
        Ok(Notification {
            user,
            said,
            created_at: self.created_at.map(UnixMillis),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_contract_is_read() {
        let said = |json: &str| {
            Notification::parse_notification(json).map(|notification| notification.said)
        };
        let (asset, seq) = (AssetId::new(1).unwrap(), Seq::new(18).unwrap());
        assert_eq!(
            said(
                r#"{"user_id":1001,"asset_id":1,"seq":18,"avail":910000000000,"frozen":0,"ref_id":9,"x":[1]}"#
            ),
            Ok(NotifiedChange::Values {
                asset,
                seq,
                avail: Amount::from_raw(910_000_000_000),
                frozen: Amount::from_raw(0)
            })
        );
        assert_eq!(
            said(r#"{"user_id":1,"asset_id":1,"seq":18,"avail":null,"frozen":null}"#),
            Ok(NotifiedChange::Seq { asset, seq })
        );
        assert_eq!(
            said(r#"{"user_id":1,"asset_id":1,"seq":null}"#),
            Ok(NotifiedChange::Asset { asset })
        );
        assert_eq!(said(r#"{"user_id":1}"#), Ok(NotifiedChange::User));
    }

    #[test]
    fn an_entry_may_hold_an_array_that_is_checked_whole() {
        let count =
            |json: &str| parse_each(json, Notification::parse_notification).map(|all| all.len());
        assert_eq!(count(r#"{"user_id":1}"#), Ok(1));
        assert_eq!(
            count(r#" [{"user_id":1},{"user_id":1,"asset_id":2}]"#),
            Ok(2)
        );
        assert_eq!(count("[]"), Ok(0));
        let values = |avail: i64| {
            format!(r#"{{"user_id":1,"asset_id":1,"seq":5,"avail":{avail},"frozen":0}}"#)
        };
        let twice = |other: i64| format!("[{},{}]", values(1), values(other));
        assert_eq!(count(&twice(1)), Ok(2));
        for (bad, index) in [
            (twice(2), "element 1"),
            (r#"[{"user_id":1},{"user_id":0}]"#.to_owned(), "element 1"),
            ("[[1]]".to_owned(), "element 0"),
            (r#"[{"user_id":1}"#.to_owned(), ""),
            (
                format!("[{}]", vec![r#"{"user_id":1}"#; 10_001].join(",")),
                "10000",
            ),
        ] {
            let said = count(&bad).unwrap_err();
            assert!(said.contains(index), "{said}");
        }
    }

    #[test]
    fn half_said_things_are_malformed() {
        for bad in [
            r#"{"asset_id":1,"seq":18}"#,
            r#"{"user_id":1,"seq":18}"#,
            r#"{"user_id":1,"asset_id":1,"avail":1,"frozen":1}"#,
            r#"{"user_id":1,"asset_id":1,"seq":18,"avail":1}"#,
            r#"{"user_id":1,"asset_id":1,"seq":18,"frozen":1}"#,
            r#"{"user_id":1,"asset_id":1,"seq":0}"#,
            r#"{"user_id":1,"asset_id":0}"#,
            r#"{"user_id":"1"}"#,
            r#"{"user_id":1.5}"#,
            "null",
            "[1001,1,18,5,5,null]",
        ] {
            assert!(Notification::parse_notification(bad).is_err(), "{bad}");
        }
    }
}
