//! The outbox of PostgreSQL while its server, the standby and the instances fail: no notification is lost.
//!
//! Instances hold balances in memory for longer than the test lasts. They stand still while a row is written and something fails, so
//! nothing but the outbox can tell them of the row.

use std::time::Duration;

use crate::support::{
    eventually::eventually_async,
    pg_pair::PgPair,
    redis::Redis,
    service::{Service, Setup},
    stage::{SOON, in_order, shown},
};

const USERS: std::ops::RangeInclusive<u64> = 1..=4;
const WAITING: &str = "SELECT count(*) FROM trading.balance_outbox";
const END_SESSIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'balance-cache'";

/// A pair of servers, and two instances that follow the outbox.
struct Followed {
    pair: PgPair,
    services: [Service; 2],
    _redis: Redis,
}

impl Followed {
    async fn start() -> Self {
        let mut pair = PgPair::start("followed", Duration::ZERO).await;
        let redis = Redis::start();
        let setup = Setup::default()
            .with("source.kind", "postgres")
            .with("postgres.url", pair.place.url())
            .with("postgres.outbox.enabled", true)
            .with("redis.url", redis.url())
            .with("memory.ttl_ms", 600_000)
            .with("redis.snapshot_ttl_ms", 300_000)
            .with("settlement.floor_ttl_ms", 3_600_000);
        let (code, said, wrong) = setup.run(&["schema", "apply", "--outbox"]);
        assert_eq!(code, 0, "{said}{wrong}");
        for user in USERS {
            write(&mut pair, user, 1).await;
        }
        let services = [
            Service::start_ready(setup.clone()).await,
            Service::start_ready(setup).await,
        ];
        let mut followed = Self {
            pair,
            services,
            _redis: redis,
        };
        for service in &followed.services {
            in_order(service).await;
        }
        followed.is_empty().await;
        for user in USERS {
            followed.all_show(user, 1).await;
        }
        followed
    }

    /// Both instances show this seq of the user.
    async fn all_show(&self, user: u64, seq: i64) {
        for service in &self.services {
            shows(service, user, seq).await;
        }
    }

    /// The outbox is taken.
    async fn is_empty(&mut self) {
        let client = self.pair.primary().client("followed").await;
        eventually_async(SOON, "the outbox is empty", async || {
            let row = client.query_one(WAITING, &[]).await.unwrap();
            (row.get::<_, i64>(0) == 0).then_some(())
        })
        .await;
    }

    fn signal_all(&mut self, name: &str) {
        for service in &mut self.services {
            service.process().signal(name);
        }
    }
}

/// A row in both tables, of which the trigger tells the outbox.
async fn write(pair: &mut PgPair, user: u64, seq: i64) {
    let text = format!(
        "BEGIN; INSERT INTO trading.balance_ledger (user_id, asset_id, seq, avail, frozen) VALUES ({user}, 1, {seq}, {seq}, 0); \
         INSERT INTO trading.user_balances (user_id, asset_id, version, avail, frozen) VALUES ({user}, 1, {seq}, {seq}, 0) \
         ON CONFLICT (user_id, asset_id) DO UPDATE SET version = excluded.version, avail = excluded.avail; COMMIT"
    );
    pair.run(&text).await;
}

async fn shows(service: &Service, user: u64, seq: i64) {
    let what = format!("user {user} is shown at seq {seq}");
    eventually_async(SOON, &what, async || {
        let answer = service.balances(user).await;
        let seen = (answer.status == 200).then(|| shown(&answer));
        seen.is_some_and(|seen| seen.len() == 1 && seen[0].2 == seq)
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_with_a_connection_a_server_or_the_instance_that_has_the_turn() {
    let mut all = Followed::start().await;
    // Its connection.
    all.pair.run(END_SESSIONS).await;
    write(&mut all.pair, 1, 2).await;
    all.all_show(1, 2).await;
    // Its server, before anybody has seen the row.
    all.signal_all("STOP");
    write(&mut all.pair, 2, 2).await;
    all.pair.primary().kill9();
    all.pair.primary().launch();
    all.signal_all("CONT");
    all.all_show(2, 2).await;
    // Whichever has the turn, and then the other one.
    for (victim, seq) in [(0, 2), (1, 3)] {
        all.signal_all("STOP");
        write(&mut all.pair, 3, seq).await;
        all.services[victim].kill9();
        let survivor = 1 - victim;
        all.services[survivor].process().signal("CONT");
        shows(&all.services[survivor], 3, seq).await;
        all.services[victim].restart().await;
        in_order(&all.services[victim]).await;
        all.all_show(3, seq).await;
    }
    all.is_empty().await;
    all.all_show(4, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_keeps_what_waits_in_the_outbox_and_what_was_taken() {
    let mut all = Followed::start().await;
    write(&mut all.pair, 1, 2).await;
    all.all_show(1, 2).await;
    all.is_empty().await;
    // The removal is on the standby, too.
    all.pair.caught_up().await;
    let standby = all.pair.standby().client("followed").await;
    let left = standby.query_one(WAITING, &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0);
    // A row that nobody has seen before its server dies.
    all.signal_all("STOP");
    write(&mut all.pair, 2, 2).await;
    all.pair.fail_over(false).await;
    assert_eq!(all.pair.ask(WAITING).await, "1");
    all.signal_all("CONT");
    all.all_show(2, 2).await;
    all.is_empty().await;
    // The old primary is there again, and its outbox says nothing: the new one's is followed.
    all.pair.bring_back_the_old_one();
    all.pair.run(END_SESSIONS).await;
    write(&mut all.pair, 3, 2).await;
    all.all_show(3, 2).await;
    all.pair.mend(true).await;
    write(&mut all.pair, 4, 2).await;
    all.all_show(4, 2).await;
    all.is_empty().await;
}
