//! The assembly: which parts there are, how they hang together, and in which order they start and stop.
//!
//! **Invariants.** Tasks are spawned only here and by the trackers handed out here. Shutdown: stop accepting, finish what is in flight
//! (at most `limits.drain_ms`), then stop the loops; a second signal ends the process at once.

mod advice;
mod assembled;
mod backend;
mod backfills;
pub mod descriptors;
mod ledger_health;
mod open_source;
mod open_totals;
mod outbox;
mod readiness;
mod reload;
mod shown;
mod totals;
mod user_lookup;
mod warm;
mod warm_state;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::reload::Reloader;

use self::{assembled::Assembled, descriptors::Connections, open_source::SourceDatabase};
use crate::{
    audit::Auditor,
    clock,
    config::{AuthMode, Settings},
    domain::Catalogue,
    http::{
        self, Hosts, Options,
        auth::Authorization,
        listener::{ListenerLimits, Listening},
    },
    ledger::embedded::LedgerOrigin,
    ops::{self, openapi::Documents},
    telemetry::{log::FilterHandle, traces},
};

/// How often gauges are set, and what was counted is put beside what was counted before.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// A process that cannot start, in words for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

/// Where a started service listens.
#[derive(Debug)]
pub struct RunningService {
    settings: Settings,
    api: Listening,
    operators: Listening,
    parts: Arc<Assembled>,
    auth: Authorization,
    documents: Documents,
    database: SourceDatabase,
    auditor: Option<Auditor>,
    shutdown: CancellationToken,
    loops: TaskTracker,
    work: TaskTracker,
}

impl RunningService {
    /// Gives advice, opens the ledger, reads certificates, binds both listeners; connects to nothing yet. Blocks for the embedded ledger.
    /// Errors: the reason that keeps it from starting.
    pub fn open_service(
        settings: Settings,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        advice::log_advice(&settings);
        let auth = Authorization::new(&settings.auth).map_err(|at| {
            StartError(format!(
                "auth.tokens[{at}].sha256 is not 64 hexadecimal digits"
            ))
        })?;
        let work = TaskTracker::new();
        let (parts, database, auditor) = Assembled::new(&settings, work.clone(), shutdown.clone())?;
        outbox::take_outbox(&parts).map_err(|error| startup_error(Some(error)))?;
        let api = Listening::bind_address(settings.http.listen)
            .map_err(|error| startup_error(Some(error)))?;
        let operators = Listening::bind_address(settings.ops.listen)
            .map_err(|error| startup_error(Some(error)))?;
        let described = describe_api(&settings, &parts.catalogue);
        Ok(Self {
            documents: Documents::new(&described, api.bound_address(), operators.bound_address()),
            api,
            operators,
            settings,
            parts: Arc::new(parts),
            auth,
            database,
            auditor,
            shutdown,
            loops: TaskTracker::new(),
            work,
        })
    }

    /// Where clients and operators ask, with the ports that the system chose.
    pub const fn bound_addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.api.bound_address(), self.operators.bound_address())
    }

    /// How the embedded ledger came to be; none with a database.
    pub fn ledger_origin(&self) -> Option<LedgerOrigin> {
        let embedded = self.parts.embedded.as_ref();
        embedded.map(|embedded| embedded.origin())
    }

    /// Makes the reloader of this service's settings; `log` is the logger's filter, where it is to be replaced too.
    pub fn new_reloader(&self, log: Option<FilterHandle>) -> Reloader {
        Reloader {
            in_force: Mutex::new(self.settings.clone()),
            parts: Arc::clone(&self.parts),
            auth: self.auth.clone(),
            database: self.database.clone(),
            documents: self.documents.clone(),
            log,
        }
    }

    /// Serves until the token is cancelled, then drains.
    pub async fn run_until_shutdown(self) {
        let Self {
            settings,
            api,
            operators,
            parts,
            auth,
            documents,
            database,
            auditor,
            shutdown,
            loops,
            work,
        } = self;
        let stop_loops = CancellationToken::new();
        database.spawn_loop(&loops, &stop_loops);
        start_loops(&parts, &loops, &stop_loops);
        if let Some(auditor) = auditor {
            loops.spawn(auditor.run_audit(stop_loops.clone()));
        }
        let connections = Connections::of_this_process(&settings);
        let limits = ListenerLimits {
            connections: connections.api,
            header_timeout: settings.limits.header_timeout_ms.0,
            drain: settings.limits.drain_ms.0,
        };
        let mode = settings.auth.mode;
        let hosts_of_operators = accepted_hosts(mode, operators.bound_address());
        let options = Options {
            auth,
            hosts: accepted_hosts(mode, api.bound_address()),
            catalogue: Arc::clone(&parts.catalogue),
            deadline: settings.limits.deadline_ms.0,
            body_bytes: settings.limits.body_bytes,
            body_wait: settings.limits.header_timeout_ms.0,
            id_prefix: rand::random(),
            wall: clock::wall_at_last_tick,
            openapi: documents.api,
        };
        let answers = Arc::new(http::Service::new(Arc::clone(&parts), options));
        let facts: Arc<dyn ops::OperatorFacts> = parts.clone();
        let described = documents.operators;
        let probes = operators.serve_connections(
            ops::OpsService::new(facts, rand::random(), hosts_of_operators, described),
            ListenerLimits {
                connections: connections.operators,
                ..limits
            },
            work.clone(),
            stop_loops.clone(),
        );
        loops.spawn(probes);
        api.serve_connections(answers, limits, work.clone(), shutdown)
            .await;
        // All requests are finished; probes are answered until the loops stop.
        stop_loops.cancel();
        work.close();
        loops.close();
        let finished = async { tokio::join!(work.wait(), loops.wait()) };
        if tokio::time::timeout(settings.limits.drain_ms.0, finished)
            .await
            .is_err()
        {
            tracing::warn!("work was still under way after the drain");
        }
        tracing::info!("stopped");
        // The last spans are sent by a thread that has to be waited for.
        drop(tokio::task::spawn_blocking(traces::finish).await);
    }
}

/// The names under which a listener may be asked.
fn accepted_hosts(mode: AuthMode, listen: SocketAddr) -> Hosts {
    match mode {
        AuthMode::None => Hosts::Local(listen.ip()),
        AuthMode::Network | AuthMode::Token => Hosts::Any,
    }
}

/// The description of the API under these settings.
fn describe_api(settings: &Settings, catalogue: &Catalogue) -> serde_json::Value {
    let token = settings.auth.mode == AuthMode::Token;
    let balances_only = settings.shows_balances_only();
    http::openapi::build_document(catalogue, settings.seq_writer(), token, balances_only)
}

fn startup_error(error: Option<impl fmt::Display>) -> StartError {
    StartError(error.map_or_else(String::new, |error| error.to_string()))
}

fn start_loops(parts: &Arc<Assembled>, loops: &TaskTracker, stop: &CancellationToken) {
    if let Some(redis) = &parts.redis {
        let (keeper, token) = (Arc::clone(redis), stop.clone());
        loops.spawn(async move { keeper.link.run_keeper(token).await });
    }
    if let Some(follower) = &parts.follower {
        let (follower, token) = (Arc::clone(follower), stop.clone());
        loops.spawn(async move { follower.run_follower(token).await });
    }
    if let Some(consumer) = &parts.consumer {
        let (consumer, token) = (Arc::clone(consumer), stop.clone());
        loops.spawn(async move { consumer.run_consumer(token).await });
    }
    if let Some(outbox) = &parts.outbox {
        let (outbox, token) = (Arc::clone(outbox), stop.clone());
        loops.spawn(async move { outbox.run(token).await });
    }
    loops.spawn(Arc::clone(&parts.totals).run_scans(stop.clone()));
    #[cfg(feature = "kafka")]
    if let Some(kafka) = &parts.kafka {
        let (kafka, token) = (Arc::clone(kafka), stop.clone());
        loops.spawn(async move { kafka.run_consumer(token).await });
    }
    loops.spawn(Arc::clone(&parts.settler).run_recovery(stop.clone()));
    let (applier, token) = (Arc::clone(&parts.applier), stop.clone());
    loops.spawn(async move { applier.run_outbox(token).await });
    if let Some(embedded) = parts.embedded.clone() {
        let token = stop.clone();
        loops.spawn(async move { embedded.serve_tools(token).await });
    }
    let (warmed, token) = (Arc::clone(parts), stop.clone());
    loops.spawn(async move {
        tokio::select! {
            () = token.cancelled() => {}
            () = warm::warm_hot_users(&warmed) => {}
        }
    });
    let (parts, token) = (Arc::clone(parts), stop.clone());
    loops.spawn(async move {
        let upkeep = async {
            let mut ticks = tokio::time::interval(UPKEEP_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut before = Instant::now();
            loop {
                let now = ticks.tick().await;
                parts.keep_up();
                let lasted = now.saturating_duration_since(before);
                parts.meters.close_second(clock::wall_now(), lasted);
                before = now;
            }
        };
        tokio::select! {
            () = token.cancelled() => {}
            () = upkeep => {}
        }
    });
}
