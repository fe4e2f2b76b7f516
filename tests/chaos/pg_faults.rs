//! What goes wrong with a pair of PostgreSQL servers.

use std::time::Duration;

use rand::{Rng, rngs::StdRng};
use tokio::task::block_in_place;

use crate::{nemesis::Fault, pace::pace, support::pg_pair::PgPair};

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DatabaseFault {
    PrimaryKilled,
    PrimaryPaused,
    StandbyKilled,
    /// Commits wait for it, and loads are read from it.
    StandbyPaused,
    /// The server ends the sessions of the service.
    SessionsEnded,
    /// The standby is promoted, and the old primary becomes its standby.
    FailedOver,
    /// The same; for a while the old primary is there again as it was, and takes writes too.
    TwoPrimaries,
}

/// All of it, and some of what can go wrong beside it.
pub const WITH_POSTGRES: &[Fault] = &[
    Fault::Postgres(DatabaseFault::PrimaryKilled),
    Fault::Postgres(DatabaseFault::PrimaryPaused),
    Fault::Postgres(DatabaseFault::StandbyKilled),
    Fault::Postgres(DatabaseFault::StandbyPaused),
    Fault::Postgres(DatabaseFault::SessionsEnded),
    Fault::Postgres(DatabaseFault::FailedOver),
    Fault::Postgres(DatabaseFault::TwoPrimaries),
    Fault::RedisRestartedEmpty,
    Fault::InstanceCutOff,
    Fault::InstanceKilled,
];

const END_SESSIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'balance-cache'";

impl DatabaseFault {
    /// It goes wrong for that time, and is healed when this returns.
    pub async fn inject(self, pair: &mut PgPair, time: Duration, rng: &mut StdRng) {
        match self {
            Self::PrimaryKilled => {
                block_in_place(|| pair.primary().kill9());
                pace(time / 4).await;
                block_in_place(|| pair.primary().launch());
            }
            Self::PrimaryPaused => {
                pair.primary().pause();
                pace(time).await;
                pair.primary().resume();
            }
            Self::StandbyKilled => {
                block_in_place(|| pair.standby().kill9());
                pace(time / 4).await;
                block_in_place(|| pair.standby().launch());
            }
            Self::StandbyPaused => {
                pair.standby().pause();
                pace(time).await;
                pair.standby().resume();
            }
            Self::SessionsEnded => pair.run(END_SESSIONS).await,
            Self::FailedOver => {
                pair.fail_over(rng.random_bool(0.5)).await;
                pace(time / 4).await;
                pair.mend(false).await;
            }
            Self::TwoPrimaries => {
                pair.fail_over(rng.random_bool(0.5)).await;
                pair.bring_back_the_old_one();
                // So that sessions are opened while both take writes.
                pair.run(END_SESSIONS).await;
                pace(time).await;
                pair.run(END_SESSIONS).await;
                pace(time / 4).await;
                pair.mend(true).await;
            }
        }
    }
}
