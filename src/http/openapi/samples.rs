//! Sample answers, made by the code that makes the real ones.

use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use crate::{
    cache_status::{CacheStatus, Detail},
    domain::{Amount, Balance, Catalogue, Floors, Seq, Snapshot, UnixMillis, UserId},
    http::{
        answer::{self, BalanceResponse},
        query::Question,
    },
    read::{ReadAnswer, RenderedSnapshot},
};

/// A user of the sample data.
pub const USER: i64 = 1001;
/// A user who has nothing.
pub const NOBODY: i64 = 999_999;
/// When the sample balances were made: that of the sample data in an empty ledger.
pub const MADE_AT: UnixMillis = UnixMillis(1_765_352_441_955);
/// As many balances as a sample shows.
const BALANCES: usize = 2;
const FIRST_AVAIL: i64 = 910_000_000_000;
const FIRST_SEQ: i64 = 17;

/// A user who has something, and one who has not.
#[derive(Debug)]
pub struct Samples<'a> {
    /// The deployment's assets.
    pub catalogue: &'a Catalogue,
    balances: Vec<Balance>,
}

/// The tier that answers a balance read.
#[derive(Debug)]
pub struct SampleTier {
    /// Without the request's id.
    pub headers: HeaderMap,
    /// Where there is one.
    pub body: Value,
}

impl<'a> Samples<'a> {
    /// With the first assets of this catalogue.
    pub fn new(catalogue: &'a Catalogue) -> Self {
        let balances = catalogue
            .asset_ids()
            .take(BALANCES)
            .zip(Seq::new(FIRST_SEQ))
            .map(|(asset, seq)| Balance {
                asset,
                seq,
                avail: Amount::from_raw(FIRST_AVAIL),
                frozen: Amount::default(),
                updated_at: Some(MADE_AT),
                said_at: MADE_AT,
            })
            .collect();
        Self {
            catalogue,
            balances,
        }
    }

    pub fn asset_id(&self) -> i32 {
        self.balances.first().map_or(1, |first| first.asset.get())
    }

    /// As clients name it.
    pub fn asset_name(&self) -> String {
        let first = self.balances.first();
        first
            .and_then(|first| self.catalogue.get_asset(first.asset))
            .map_or_else(|| "1".to_owned(), |(name, _)| name)
    }

    /// The balances of the user who has something.
    pub fn sample_balances(&self) -> &[Balance] {
        &self.balances
    }

    /// An asset that values are told in: another than [`Samples::asset_name`], where there are two.
    pub fn quote_name(&self) -> String {
        let last = self.balances.last();
        last.and_then(|last| self.catalogue.get_asset(last.asset))
            .map_or_else(|| "USDT".to_owned(), |(name, _)| name)
    }

    /// The same as a query parameter: a number where it has no name.
    pub fn asset_parameter(&self) -> Value {
        let asset = self.asset_name();
        asset
            .parse::<i32>()
            .map_or_else(|_| asset.into(), Value::from)
    }

    /// The questions that the sample user may be asked.
    pub fn min_seq(&self) -> String {
        format!("{}:{FIRST_SEQ}", self.asset_name())
    }

    /// A balance read; `has` is what the client sends as `If-None-Match`.
    pub fn balance_read(&self, whole: bool, has: Option<&HeaderValue>) -> SampleTier {
        let question = Question {
            user: UserId::MAX,
            asset: None,
            min_seq: Floors::NONE,
        };
        let answer = self.sample_answer(whole, None);
        let has = has.into_iter().map(HeaderValue::as_bytes);
        let response = BalanceResponse::new(
            &question,
            has,
            answer.borrowed_view(),
            self.catalogue,
            MADE_AT,
        )
        .into_response();
        SampleTier {
            headers: response.headers().clone(),
            body: parse_json_body(answer.held.body_bytes()),
        }
    }

    /// A batch read of one user who has something and one who has not.
    pub fn batch_read(&self) -> Value {
        let users: Vec<UserId> = [USER, NOBODY]
            .into_iter()
            .filter_map(|user| UserId::try_from(user).ok())
            .collect();
        let answers = [
            self.sample_answer(true, Some(Detail::Behind)),
            self.sample_answer(false, None),
        ];
        parse_json_body(&answer::batch_body(&users, &answers))
    }

    /// An answer about a user who has something, or one who has not.
    pub fn sample_answer(&self, whole: bool, detail: Option<Detail>) -> ReadAnswer {
        let balances = if whole { self.balances.clone() } else { vec![] };
        let held = RenderedSnapshot::new(self.catalogue, &Snapshot::new(balances), MADE_AT);
        ReadAnswer {
            held,
            cache_status: CacheStatus {
                detail,
                ..CacheStatus::memory_hit(9)
            },
        }
    }
}

pub fn parse_json_body(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}
