//! Pages of trades and statements. They go past memory and Redis: a page is asked for once, and shows everything that was acknowledged
//! before.
//!
//! **Invariants.** Pages have permits of their own, an eighth of `limits.source_loads`: readers of histories keep no balance read
//! waiting. Only the source can fail a page.
//!
//! **Cancellation.** A dropped page gives its permit back; the source may finish what it was asked.
//!
//! **Limits.** Each wait ends with the request's deadline; a permit is had in half of that time or not at all. Of one user
//! two pages are read at a time.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::ReadError;
use crate::{
    admission::{
        LoadClass, Permit, PermitQueue, Shed,
        adaptive_limit::LimitRange,
        per_user::{PerUserLimit, UserPermit},
        queue::QueueLimits,
    },
    config::Settings,
    domain::{HistoryPage, StatementQuestion, StatementRow, TradesQuestion, UserId, UserTrade},
    ledger::{self, Cost, Source, history::find_seq_at},
    telemetry::{HistoryRoute, Meters, PageResult},
};

/// Pages at once: this part of `limits.source_loads`, at least one.
const SOURCE_LOADS_PART: usize = 8;
/// Pages at once, where the source is slow.
const PAGES_MIN: usize = 2;
/// Slowness of a page that no reader minds.
const SLACK: Duration = Duration::from_millis(10);
/// The part of a request's time that it may wait for a permit: the rest belongs to the answer.
const PATIENCE_PART: u32 = 4;

#[derive(Debug)]
pub struct HistoryReader {
    source: Arc<dyn Source>,
    meters: Arc<Meters>,
    permits: PermitQueue,
    users: PerUserLimit,
    /// Half of a request's time.
    half_deadline: Duration,
}

impl HistoryReader {
    pub fn new(source: &Arc<dyn Source>, meters: &Arc<Meters>, settings: &Settings) -> Self {
        let pages_max = settings.limits.source_loads.div_ceil(SOURCE_LOADS_PART);
        let part = |time: Duration, of| time.checked_div(of).unwrap_or_default();
        let deadline = settings.limits.deadline_ms.0;
        let limits = QueueLimits {
            bounds: LimitRange {
                floor: PAGES_MIN.min(pages_max),
                ceiling: pages_max,
                slack: SLACK,
                longest: part(settings.source.timeout_ms.0, 2),
            },
            bulk: pages_max,
        };
        let patience = part(deadline, PATIENCE_PART);
        Self {
            source: Arc::clone(source),
            meters: Arc::clone(meters),
            permits: PermitQueue::new(limits, patience, Instant::now()),
            users: PerUserLimit::default(),
            half_deadline: part(deadline, 2),
        }
    }

    /// A page of one user's trades in one symbol.
    /// Errors: [`ReadError::Source`], [`ReadError::Shed`], [`ReadError::Deadline`].
    pub async fn trades_page(
        &self,
        question: &TradesQuestion,
        deadline: Instant,
    ) -> Result<HistoryPage<UserTrade>, ReadError> {
        let (route, cost) = (HistoryRoute::Trades, Cost::default());
        let read = async {
            let rows = match question.trade_slice() {
                Some(slice) => self.source.user_trades(slice, &cost).await?,
                None => Vec::new(),
            };
            Ok(question.cut_page(rows))
        };
        self.read_page(route, question.user, deadline, &cost, read)
            .await
    }

    /// A page of the statement of one user's balance in one asset.
    /// Errors: [`ReadError::Source`], [`ReadError::Shed`], [`ReadError::Deadline`].
    pub async fn statement_page(
        &self,
        question: &StatementQuestion,
        deadline: Instant,
    ) -> Result<HistoryPage<StatementRow>, ReadError> {
        let (route, cost) = (HistoryRoute::Statement, Cost::default());
        let read = async {
            let start = match (question.at, question.after) {
                (Some(at), None) => {
                    let of = (question.user, question.asset);
                    find_seq_at(&*self.source, of, at, &cost).await?
                }
                _ => None,
            };
            let rows = match question.ledger_slice(start) {
                Some(slice) => self.source.read_statement(slice, &cost).await?,
                None => Vec::new(),
            };
            Ok(question.cut_page(rows))
        };
        self.read_page(route, question.user, deadline, &cost, read)
            .await
    }

    async fn read_page<T>(
        &self,
        route: HistoryRoute,
        user: UserId,
        deadline: Instant,
        cost: &Cost,
        read: impl Future<Output = Result<T, ledger::LedgerError>>,
    ) -> Result<T, ReadError> {
        let begun = Instant::now();
        let permitted = async {
            let (permit, _user_permit) = self.acquire_permit(user, begun).await?;
            let asked = Instant::now();
            let result = read.await;
            let timed_out = matches!(result, Err(ledger::LedgerError::Timeout));
            if timed_out || result.is_ok() {
                let took = per_statement(asked.elapsed(), cost);
                permit.record_sample(took, timed_out).await;
            }
            result.map_err(ReadError::Source)
        };
        let in_time = timeout_at(deadline, permitted).await;
        let result = in_time.unwrap_or(Err(ReadError::Deadline));
        let shown = match &result {
            Ok(_) => PageResult::Page,
            Err(ReadError::Shed) => PageResult::Shed,
            Err(ReadError::Source(_) | ReadError::NotReached | ReadError::Deadline) => {
                PageResult::Failed
            }
        };
        self.meters.record_page(route, shown, begun.elapsed());
        result
    }

    /// Waits for the user's permit and for one of the source, until half of the page's time is over.
    async fn acquire_permit(
        &self,
        user: UserId,
        begun: Instant,
    ) -> Result<(Permit<'_>, UserPermit<'_>), Shed> {
        let end = begun.checked_add(self.half_deadline).unwrap_or(begun);
        let of_user = self.users.acquire_permit(user, end).await.ok_or(Shed)?;
        let permit = self.permits.acquire_permit(LoadClass::Single, end).await;
        Ok((permit.ok_or(Shed)?, of_user))
    }
}

/// The time of one statement: a search by time takes many, and says no more of the source's load than one does.
fn per_statement(took: Duration, cost: &Cost) -> Duration {
    let statements = u32::try_from(cost.statement_count()).unwrap_or(u32::MAX);
    took.checked_div(statements.max(1)).unwrap_or(took)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use futures::future::join_all;

    use super::*;
    use crate::{
        config,
        domain::{AssetId, Order},
        read::{
            ReadOptions,
            tests::{House, test_house, test_user},
        },
    };

    fn test_pages(house: &House, more: &[(&str, &str)]) -> HistoryReader {
        let owned = more
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let settings = config::load_settings(None, owned).unwrap();
        let source = Arc::clone(&house.source) as Arc<dyn Source>;
        HistoryReader::new(&source, &Meters::new(), &settings)
    }

    fn test_statement(of: i64) -> StatementQuestion {
        StatementQuestion {
            user: test_user(of),
            asset: AssetId::new(1).unwrap(),
            at: None,
            order: Order::NewestFirst,
            limit: 100,
            after: None,
        }
    }

    fn later_deadline() -> Instant {
        Instant::now() + Duration::from_secs(2)
    }

    #[tokio::test(start_paused = true)]
    async fn readers_of_histories_that_wait_keep_no_balance_read_waiting() {
        let settings = [("BALANCE_CACHE__LIMITS__SOURCE_LOADS", "16")];
        let house = test_house(&settings);
        let reader = test_pages(&house, &settings);
        house.source.stuck.lock().extend((2..200).map(test_user));
        let questions: Vec<_> = (2..200).map(test_statement).collect();
        let begun = Instant::now();
        let pages = questions
            .iter()
            .map(|question| reader.statement_page(question, later_deadline()));
        let both = futures::future::join(join_all(pages), async {
            tokio::task::yield_now().await;
            let asked = Instant::now();
            let answer = house.ask_reader(ReadOptions::default()).await;
            (answer, asked.elapsed())
        });
        let (pages, (answer, took)) = both.await;
        answer.unwrap();
        assert!(took < Duration::from_millis(50), "{took:?}");
        let count = |wanted: fn(&ReadError) -> bool| {
            pages
                .iter()
                .filter(|page| page.as_ref().is_err_and(wanted))
                .count()
        };
        let shed = count(|error| matches!(error, ReadError::Shed));
        let late = count(|error| matches!(error, ReadError::Deadline));
        // An eighth of 16 permits, never given back in time; all others are sent away.
        assert_eq!((shed, late), (196, 2));
        assert!(begun.elapsed() <= Duration::from_secs(2));
        let page = reader
            .statement_page(&test_statement(1), later_deadline())
            .await;
        assert_eq!(page.unwrap().rows, [], "permits come back");
    }

    #[tokio::test(start_paused = true)]
    async fn one_user_has_two_pages_at_a_time_and_keeps_the_others_free() {
        let house = test_house(&[]);
        let reader = test_pages(&house, &[]);
        house.source.stuck.lock().insert(test_user(2));
        let question = test_statement(2);
        let pages = (0..200).map(|_| reader.statement_page(&question, later_deadline()));
        let other = async {
            tokio::task::yield_now().await;
            reader
                .statement_page(&test_statement(1), later_deadline())
                .await
        };
        let (pages, other) = futures::future::join(join_all(pages), other).await;
        assert_eq!(other.unwrap().rows, []);
        let late = pages
            .iter()
            .filter(|page| matches!(page, Err(ReadError::Deadline)));
        assert_eq!(late.count(), 2);
    }

    #[tokio::test]
    async fn a_source_that_fails_is_an_error_and_never_an_empty_page() {
        let house = test_house(&[]);
        let reader = test_pages(&house, &[]);
        house.source.fails.store(true, Ordering::SeqCst);
        let page = reader
            .statement_page(&test_statement(1), later_deadline())
            .await;
        assert!(matches!(page, Err(ReadError::Source(_))), "{page:?}");
    }
}
