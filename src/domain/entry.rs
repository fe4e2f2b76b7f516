//! One row of the ledger, as it is written.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::{Amount, AssetId, Seq, UnixMillis, UserId};

/// The longest `event_type`: a page of a statement may have a thousand of them.
const EVENT_TYPE_MAX: usize = 256;

/// An entry of the append-only ledger: the running balance *after* the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub user: UserId,
    pub asset: AssetId,
    /// Which version of it.
    pub seq: Seq,
    /// Running balance after the event.
    pub avail: Amount,
    /// Running hold after the event.
    pub frozen: Amount,
    /// The change of `avail`, where the writer says it.
    pub delta_avail: Option<Amount>,
    /// The change of `frozen`, where the writer says it.
    pub delta_frozen: Option<Amount>,
    /// The event (`deposit`, `trade`, …), where the writer gives it.
    pub event_type: Option<String>,
    /// The writer's reference, where it gives one.
    pub ref_id: Option<i64>,
    /// When it happened, where the writer says it.
    pub created_at: Option<UnixMillis>,
}

/// [`Entry`] as JSON, before it is checked. Fields that we do not know are an error: this is our own form.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(description = "A row of the append-only ledger: what the user has after the event.")]
#[serde(deny_unknown_fields)]
pub struct EntryWire {
    /// The user of the balance.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    user_id: i64,
    /// The asset.
    #[schema(minimum = 1_i64, maximum = 2_147_483_647_i64)]
    asset_id: i64,
    /// Which version of it.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    seq: i64,
    /// Running balance after the event, in raw units: the asset's smallest (with 8 decimals, 920000000000 is "9200" in an answer).
    #[schema(minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    avail: i64,
    /// Running hold after the event, in raw units.
    #[schema(minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    frozen: i64,
    /// The change of `avail`.
    #[schema(minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    delta_avail: Option<i64>,
    /// The change of `frozen`.
    #[schema(minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    delta_frozen: Option<i64>,
    /// The event: at most 256 characters, without U+0000.
    #[schema(max_length = 256, pattern = r"^[^\u0000]*$")]
    event_type: Option<String>,
    /// The reference.
    #[schema(minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    ref_id: Option<i64>,
    /// When it happened: milliseconds since 1970.
    #[schema(minimum = 0_i64, maximum = 9_223_372_036_854_775_807_i64)]
    created_at: Option<i64>,
}

impl Entry {
    /// The entry, checked.
    /// Errors: the mistake, for the caller to read.
    pub fn parse_entry(json: &str) -> Result<Self, String> {
        let wire: EntryWire = super::notification::parse_object(json)?;
        let read = || -> Result<_, super::MalformedId> {
            Ok((
                UserId::try_from(wire.user_id)?,
                AssetId::try_from(wire.asset_id)?,
                Seq::try_from(wire.seq)?,
            ))
        };
        let (user, asset, seq) = read().map_err(|malformed| malformed.to_string())?;
        let event_type = wire.event_type.as_deref().unwrap_or_default();
        if event_type.chars().count() > EVENT_TYPE_MAX || event_type.contains('\0') {
            return Err(format!(
                "event_type must have at most {EVENT_TYPE_MAX} characters and no U+0000"
            ));
        }
        Ok(Self {
            user,
            asset,
            seq,
            avail: Amount::from_raw(wire.avail),
            frozen: Amount::from_raw(wire.frozen),
            delta_avail: wire.delta_avail.map(Amount::from_raw),
            delta_frozen: wire.delta_frozen.map(Amount::from_raw),
            event_type: wire.event_type,
            ref_id: wire.ref_id,
            created_at: wire
                .created_at
                .map(|millis| UnixMillis::parse_named("created_at", millis))
                .transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_needs_its_key_and_both_amounts() {
        let good = r#"{"user_id":1,"asset_id":2,"seq":3,"avail":-4,"frozen":5,"event_type":null}"#;
        let entry = Entry::parse_entry(good).unwrap();
        assert_eq!(
            (entry.avail.raw(), entry.frozen.raw(), entry.event_type),
            (-4, 5, None)
        );
        for bad in [
            r#"{"user_id":1,"asset_id":2,"seq":3,"avail":4}"#,
            r#"{"user_id":0,"asset_id":2,"seq":3,"avail":4,"frozen":5}"#,
            r#"{"user_id":1,"asset_id":2147483648,"seq":3,"avail":4,"frozen":5}"#,
            r#"{"user_id":1,"asset_id":2,"seq":3,"avail":4.5,"frozen":5}"#,
            r#"{"user_id":1,"asset_id":2,"seq":3,"avail":9223372036854775808,"frozen":5}"#,
            r#"{"user_id":1,"asset_id":2,"seq":3,"avail":4,"frozen":5,"typo":1}"#,
            r#"{"user_id":1,"asset_id":2,"seq":3,"avail":4,"frozen":5,"created_at":-1}"#,
            "[]",
        ] {
            assert!(Entry::parse_entry(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_event_type_is_bounded_and_has_no_nul() {
        let with = |event_type: &str| {
            let json = serde_json::json!({"user_id": 1, "asset_id": 2, "seq": 3, "avail": 4, "frozen": 5, "event_type": event_type});
            Entry::parse_entry(&json.to_string())
        };
        assert!(with(&"é".repeat(256)).is_ok());
        assert!(with(&"é".repeat(257)).is_err());
        assert!(with("a\0").is_err());
    }
}
