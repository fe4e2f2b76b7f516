//! Rates in Redis: a hash for each quote (`balance:rates:<quote>`), with the rate and its time for each asset.
//!
//! **Limits.** A rate that cannot be read is no rate, and counted as corrupt; the next one replaces it.

use redis::{RedisResult, Value};

use super::{
    Redis, as_bytes,
    script::{self, Call},
};
use crate::{
    cache_status::Tier,
    diagnosis::Code,
    domain::{AssetId, CatalogueTable, DatedRate, Rates, RatesTaken, UnixMillis},
    telemetry::{Fault, Op},
};

impl Redis {
    /// Takes rates in this order, each unless a newer one is held. `quote` is a name of the catalogue.
    /// Errors: the fault, counted: some of them may be taken, and all of them may be sent again.
    pub async fn set_rates(
        &self,
        quote: &str,
        rates: &[(AssetId, DatedRate)],
        catalogue: &CatalogueTable,
    ) -> Result<RatesTaken, Fault> {
        let session = self.session_for(Op::Apply)?;
        let call = Call::new(&script::RATES).with_key(self.link.keys.rates_key(quote));
        let call = rates.iter().fold(call, |call, (asset, dated)| {
            call.with_arg(asset_field(*asset, catalogue))
                .with_arg(dated.rate.to_string())
                .with_arg(dated.at.0.to_string())
        });
        let reply = self.call_one(&session, Op::Apply, call).await?;
        let (applied, old): (u64, u64) = self.read_reply(reply, Op::Apply)?;
        Ok(RatesTaken { applied, old })
    }

    /// All rates in a quote.
    /// Errors: the fault, counted.
    pub async fn read_rates(
        &self,
        quote: &str,
        catalogue: &CatalogueTable,
    ) -> Result<Rates, Fault> {
        let session = self.session_for(Op::Get)?;
        let mut command = redis::cmd("HGETALL");
        command.arg(self.link.keys.rates_key(quote));
        let mut replies = self
            .link
            .send_commands(&session, Op::Get, vec![command])
            .await?;
        let reply: RedisResult<Value> = replies.pop().ok_or(Fault::Error)?;
        let (rates, unreadable) = match reply {
            Ok(value) => decode_rates(&value, catalogue),
            Err(error) => {
                let finding = self.link.finding_of(&error);
                if finding.code != Code::RedisWrongType {
                    return Err(self.note_refused(finding, Op::Get));
                }
                (Rates::default(), 1)
            }
        };
        for _ in 0..unreadable {
            self.meters
                .tier_failure(Tier::Redis, Op::Get, Fault::Corrupt);
        }
        Ok(rates)
    }
}

/// The rates of a hash, and the number of its fields that cannot be read; a reply that is no hash counts as one.
fn decode_rates(reply: &Value, catalogue: &CatalogueTable) -> (Rates, usize) {
    let (mut rates, mut unreadable) = (Rates::default(), 0_usize);
    let Some(fields) = reply.as_map_iter() else {
        return (rates, 1);
    };
    for (field, value) in fields {
        let texts = utf8_text(field).zip(utf8_text(value));
        let read = texts.and_then(|(field, text)| dated_rate(field, text, catalogue));
        if let Some((asset, dated)) = read {
            rates.offer_rate(asset, dated);
        } else {
            unreadable = unreadable.saturating_add(1);
        }
    }
    (rates, unreadable)
}

fn utf8_text(value: &Value) -> Option<&str> {
    std::str::from_utf8(as_bytes(value).ok()?).ok()
}

/// Returns the asset's name in the catalogue, or its number.
fn asset_field(asset: AssetId, catalogue: &CatalogueTable) -> String {
    let known = catalogue.get_asset(asset);
    known.map_or_else(|| asset.to_string(), |(name, _)| name.to_owned())
}

/// The number of an asset that got a name since is its number still.
fn dated_rate(field: &str, text: &str, catalogue: &CatalogueTable) -> Option<(AssetId, DatedRate)> {
    let asset = catalogue
        .resolve_asset(field)
        .or_else(|| field.parse().ok())?;
    let (rate, at) = text.split_once(' ')?;
    let dated = DatedRate {
        rate: rate.parse().ok()?,
        at: UnixMillis(at.parse().ok()?),
    };
    Some((asset, dated))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Asset;

    #[test]
    fn a_field_is_read_by_its_name_or_number_or_not_at_all() {
        let asset = Asset::new(1, "BTC", 8);
        let catalogue = CatalogueTable::new(&[asset], &[]).unwrap();
        let read = |field: &str, text: &str| {
            let found = dated_rate(field, text, &catalogue);
            found.map(|(asset, dated)| (asset.get(), dated.rate.to_string(), dated.at.0))
        };
        let found = |asset, rate: &str, at| Some((asset, rate.to_owned(), at));
        assert_eq!(read("BTC", "50000.5 7"), found(1, "50000.5", 7));
        assert_eq!(read("1", "2 8"), found(1, "2", 8));
        assert_eq!(read("77", "0.1 9"), found(77, "0.1", 9));
        for (field, text) in [
            ("XYZ", "1 7"),
            ("BTC", "1"),
            ("BTC", "1 x"),
            ("BTC", "0 7"),
            ("BTC", "-1 7"),
        ] {
            assert_eq!(read(field, text), None, "{field} {text}");
        }
    }

    #[test]
    fn what_cannot_be_read_hides_no_rate_beside_it_and_is_counted() {
        let assets = [Asset::new(1, "BTC", 8), Asset::new(2, "ETH", 8)];
        let catalogue = CatalogueTable::new(&assets, &[]).unwrap();
        let bulk = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        let pairs = [
            (bulk(b"BTC"), bulk(b"5 7")),
            (bulk(b"\xff"), bulk(b"1 7")),
            (bulk(b"ETH"), bulk(b"\xff 7")),
            (bulk(b"77"), Value::Int(7)),
            (bulk(b"78"), bulk(b"much")),
        ];
        let array = pairs
            .iter()
            .cloned()
            .flat_map(|(field, text)| [field, text]);
        for reply in [Value::Array(array.collect()), Value::Map(pairs.to_vec())] {
            let (rates, unreadable) = decode_rates(&reply, &catalogue);
            let assets: Vec<i32> = rates.0.keys().map(|asset| asset.get()).collect();
            assert_eq!((assets, unreadable), (vec![1], 4), "{reply:?}");
        }
        for reply in [Value::Int(1), Value::Array(vec![bulk(b"BTC")])] {
            let (rates, unreadable) = decode_rates(&reply, &catalogue);
            assert_eq!((rates.0.len(), unreadable), (0, 1), "{reply:?}");
        }
    }
}
