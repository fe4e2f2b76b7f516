//! The balances that a simulation should have led to, compared with the API, the ledger, `user_balances` and the view.
//!
//! **Invariants.** Nothing is written. A place that lags is asked again until `--grace-ms` is over.
//!
//! **Limits.** [`AT_ONCE`] users of a database at a time; [`SHOWN_MAX`] differences are told, all are counted.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use balance_cache::{
    config::{Settings, SourceKind},
    domain::{Amount, AssetId, Snapshot, UserId},
    ledger::{
        LedgerError,
        embedded::inspect,
        postgres::inspect::PgLook,
        scylla::{inspect::CqlInspector, schema::RelationState},
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::{
    super::{
        ledger_file,
        progress::Progress,
        service_view::{ServiceEnvelope, ShownBalance},
    },
    books::{BookBalance, Books},
    plan::{MarketSide, Plan},
    send::Sender,
};

const BATCH: &str = "/api/v1/user/balances";
/// Users of one request.
const TOGETHER: usize = 200;
const AT_ONCE: usize = 16;
const PAUSE: Duration = Duration::from_millis(100);
const SHOWN_MAX: usize = 20;

/// Both balances of a user; a seq of 0 where there is no row.
type Both = [BookBalance; 2];

#[derive(Debug, Default)]
pub(super) struct SimulationComparison {
    pub(super) places: Vec<&'static str>,
    pub(super) balances: u64,
    pub(super) differences: u64,
    pub(super) shown: Vec<String>,
}

struct ComparedPart<'a> {
    plan: &'a Plan,
    books: &'a Books,
    grace: Duration,
    compared: SimulationComparison,
}

pub(super) async fn compare_places(
    plan: &Plan,
    books: &Books,
    sender: &Sender,
    settings: &Settings,
    grace: Duration,
) -> Result<SimulationComparison> {
    let mut comparison = ComparedPart {
        plan,
        books,
        grace,
        compared: SimulationComparison::default(),
    };
    let seats: Vec<u32> = (0..=plan.house_seat()).collect();
    let progress = Progress::new("comparing", u64::from(plan.house_seat()).saturating_add(1));
    for some in seats.chunks(TOGETHER) {
        let ask = async |some: &[u32]| comparison_of_api(plan, sender, some).await;
        comparison.compare_place("the API", some, ask).await?;
        progress.add_done(u64::try_from(some.len()).unwrap_or(0));
    }
    progress.clear_bar();
    match settings.source.kind {
        SourceKind::Embedded => comparison.compare_embedded(settings, &seats).await?,
        SourceKind::Scylla => comparison.compare_cql(settings, &seats).await?,
        SourceKind::Postgres => comparison.postgres(settings, &seats).await?,
    }
    Ok(comparison.compared)
}

impl ComparedPart<'_> {
    fn expected_balances(&self, seat: u32) -> Both {
        [MarketSide::Base, MarketSide::Quote].map(|side| self.books.seat_balance(seat, side))
    }

    /// Compares what a place has of these seats, again and again while it lags.
    async fn compare_place(
        &mut self,
        place: &'static str,
        seats: &[u32],
        ask: impl AsyncFn(&[u32]) -> Result<Vec<Both>>,
    ) -> Result<()> {
        if self.compared.places.last() != Some(&place) {
            self.compared.places.push(place);
        }
        let begun = Instant::now();
        let mut open: Vec<u32> = seats.to_vec();
        loop {
            let found = ask(&open).await?;
            let both = open.iter().copied().zip(found);
            let wrong: Vec<(u32, Both)> = both
                .filter(|(seat, found)| self.expected_balances(*seat) != *found)
                .collect();
            if wrong.is_empty() {
                break;
            }
            if begun.elapsed() >= self.grace {
                for (seat, found) in wrong {
                    self.add_differences(place, seat, &found);
                }
                break;
            }
            open = wrong.into_iter().map(|(seat, _)| seat).collect();
            sleep(PAUSE).await;
        }
        let count = u64::try_from(seats.len()).unwrap_or(0).saturating_mul(2);
        self.compared.balances = self.compared.balances.saturating_add(count);
        Ok(())
    }

    fn add_differences(&mut self, place: &str, seat: u32, found: &Both) {
        let expected = self.expected_balances(seat);
        for ((side, expected), found) in [MarketSide::Base, MarketSide::Quote]
            .into_iter()
            .zip(expected)
            .zip(found)
        {
            if expected == *found {
                continue;
            }
            self.compared.differences = self.compared.differences.saturating_add(1);
            if self.compared.shown.len() < SHOWN_MAX {
                let text = |held: &BookBalance| {
                    format!(
                        "seq {} (avail {}, frozen {})",
                        held.seq, held.avail, held.frozen
                    )
                };
                let asset = self.plan.market.side_asset(side);
                self.compared.shown.push(format!(
                    "user {} asset {asset}: {place} has {}, and should have {}; raw units",
                    self.plan.seat_user_id(seat),
                    text(found),
                    text(&expected)
                ));
            }
        }
    }

    async fn compare_embedded(&mut self, settings: &Settings, seats: &[u32]) -> Result<()> {
        let plan = self.plan;
        let path = &settings.embedded.path;
        let ask = async |some: &[u32],
                         read: fn(
            &inspect::EmbeddedInspector,
            UserId,
        ) -> Result<Snapshot, LedgerError>| {
            // A look is of one moment.
            let look = ledger_file::open_checked(path)?;
            let each = some.iter().map(|seat| {
                let snapshot = read(&look, seat_user(plan, *seat)?)?;
                Ok::<_, anyhow::Error>(both_of(plan, &snapshot))
            });
            each.collect()
        };
        let ledger = async |some: &[u32]| ask(some, inspect::EmbeddedInspector::read_ledger).await;
        self.compare_place("the ledger", seats, ledger).await?;
        let table = async |some: &[u32]| ask(some, inspect::EmbeddedInspector::read_table).await;
        self.compare_place("user_balances", seats, table).await
    }

    async fn compare_cql(&mut self, settings: &Settings, seats: &[u32]) -> Result<()> {
        let plan = self.plan;
        let look = &CqlInspector::open_session(&settings.scylla, &settings.source).await?;
        let assets = &{
            let mut assets = vec![plan.market.base, plan.market.quote];
            assets.sort_unstable();
            assets
        };
        let stands = |standing: &RelationState| {
            matches!(standing, RelationState::Table | RelationState::View)
        };
        let ledger = async |some: &[u32]| {
            read_seats(plan, some, |user| look.read_ledger(user, assets)).await
        };
        self.compare_place("the ledger", seats, ledger).await?;
        if stands(&look.found.table) {
            let table =
                async |some: &[u32]| read_seats(plan, some, |user| look.read_table(user)).await;
            self.compare_place("user_balances", seats, table).await?;
        }
        if stands(&look.found.view) {
            let view =
                async |some: &[u32]| read_seats(plan, some, |user| look.read_view(user)).await;
            self.compare_place("the view", seats, view).await?;
        }
        Ok(())
    }

    async fn postgres(&mut self, settings: &Settings, seats: &[u32]) -> Result<()> {
        let plan = self.plan;
        let look = &PgLook::open_schema(&settings.postgres, &settings.source).await?;
        let ledger =
            async |some: &[u32]| read_seats(plan, some, |user| look.read_ledger(user)).await;
        self.compare_place("the ledger", seats, ledger).await?;
        let table = async |some: &[u32]| read_seats(plan, some, |user| look.read_table(user)).await;
        self.compare_place("user_balances", seats, table).await
    }
}

/// Snapshots of these seats, in their order.
async fn read_seats<F>(plan: &Plan, seats: &[u32], read: impl Fn(UserId) -> F) -> Result<Vec<Both>>
where
    F: Future<Output = Result<Snapshot, LedgerError>>,
{
    let reads = seats.iter().map(|seat| Ok(read(seat_user(plan, *seat)?)));
    let reads: Vec<F> = reads.collect::<Result<_>>()?;
    let snapshots: Vec<Snapshot> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
    Ok(snapshots.iter().map(|one| both_of(plan, one)).collect())
}

fn seat_user(plan: &Plan, seat: u32) -> Result<UserId> {
    Ok(UserId::new(plan.seat_user_id(seat))?)
}

fn both_of(plan: &Plan, snapshot: &Snapshot) -> Both {
    [MarketSide::Base, MarketSide::Quote].map(|side| {
        let balance = snapshot.get(plan.market.side_asset(side));
        balance.map_or_else(BookBalance::default, |balance| BookBalance {
            seq: balance.seq.get(),
            avail: balance.avail.raw(),
            frozen: balance.frozen.raw(),
        })
    })
}

#[derive(Debug, Deserialize)]
struct UserBalances {
    user_id: i64,
    balances: Vec<ShownBalance>,
}

async fn comparison_of_api(plan: &Plan, sender: &Sender, seats: &[u32]) -> Result<Vec<Both>> {
    let users: Vec<i64> = seats.iter().map(|seat| plan.seat_user_id(*seat)).collect();
    let body = serde_json::json!({"user_ids": users}).to_string();
    let answer = sender.post_until_answered(BATCH, &body).await?;
    let envelope: ServiceEnvelope<Vec<UserBalances>> = ServiceEnvelope::from_answer(&answer);
    let all = envelope
        .data
        .ok_or_else(|| anyhow::anyhow!("HTTP {}: {}", answer.status, envelope.msg))?;
    let by_user: BTreeMap<i64, Vec<ShownBalance>> = all
        .into_iter()
        .map(|one| (one.user_id, one.balances))
        .collect();
    let both = users.iter().map(|user| {
        let balances = by_user.get(user).map(Vec::as_slice).unwrap_or_default();
        [MarketSide::Base, MarketSide::Quote]
            .map(|side| held_of(plan, plan.market.side_asset(side), balances))
    });
    Ok(both.collect())
}

fn held_of(plan: &Plan, asset: AssetId, balances: &[ShownBalance]) -> BookBalance {
    let Some((name, decimals)) = plan.market.catalogue.get_asset(asset) else {
        return BookBalance::default();
    };
    let balance = balances.iter().find(|balance| balance.asset == name);
    balance.map_or_else(BookBalance::default, |balance| {
        // A text that is no amount is a difference from any.
        let raw = |text: &str| Amount::from_decimal(text, decimals).map_or(i64::MIN, Amount::raw);
        BookBalance {
            seq: balance.seq,
            avail: raw(&balance.avail),
            frozen: raw(&balance.frozen),
        }
    })
}
