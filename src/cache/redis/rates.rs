//! Rates in Redis: a hash for each quote (`balance:rates:<quote>`), with the rate and its time for each asset.
//!
//! **Limits.** A rate that cannot be read is no rate; the next one replaces it.

use redis::{FromRedisValue, RedisResult, Value};

use super::{
    Redis,
    script::{self, Call},
};
use crate::{
    cache_status::Tier,
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
        let fields: Vec<(String, String)> = match reply {
            Ok(value) => Vec::from_redis_value(value).unwrap_or_default(),
            Err(error) => return Err(self.note_refused(self.link.finding_of(&error), Op::Get)),
        };
        let mut rates = Rates::default();
        for (field, text) in fields {
            if let Some((asset, dated)) = dated_rate(&field, &text, catalogue) {
                rates.offer_rate(asset, dated);
            } else {
                let meters = &self.meters;
                meters.tier_failure(Tier::Redis, Op::Get, Fault::Corrupt);
            }
        }
        Ok(rates)
    }
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
}
