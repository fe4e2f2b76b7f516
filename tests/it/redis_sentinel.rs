//! `redis.mode = "sentinel"`: the master that the sentinels name, before and after a failover.

use std::{fs, process::Command};

use tempfile::TempDir;

use crate::{
    cli_support::Said,
    redis_compat::acknowledged,
    settlement_support::{SETTLEMENTS, SOON, short, values, whole},
    support::{
        eventually::{eventually, eventually_async},
        port::Port,
        process::Process,
        redis::{Options, Redis, program},
        service::Service,
        stage::readiness,
    },
};

const MASTER: &str = "the-master";

/// A sentinel of its own process.
struct Sentinel {
    _process: Process,
    port: Port,
    _folder: TempDir,
}

impl Sentinel {
    fn start(master: &Redis, password: &str) -> Self {
        let folder = TempDir::with_prefix("sentinel-").unwrap();
        let port = Port::reserve();
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nrequirepass {password}\nsentinel sentinel-pass {password}\n\
             sentinel monitor {MASTER} 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds {MASTER} 5000\nsentinel failover-timeout {MASTER} 10000\n",
            port.number(),
            folder.path().display(),
            master.address().port(),
        );
        fs::write(&file, text).unwrap();
        let mut command = Command::new(program());
        command.arg(&file).arg("--sentinel");
        let process = Process::start(&command, folder.path());
        Self {
            _process: process,
            port,
            _folder: folder,
        }
    }

    /// What it knows of its master.
    fn knows(&self, password: &str) -> Option<std::collections::HashMap<String, String>> {
        let url = format!("redis://:{password}@{}", self.port.address());
        let mut connection = redis::Client::open(url).ok()?.get_connection().ok()?;
        redis::cmd("SENTINEL")
            .arg("MASTER")
            .arg(MASTER)
            .query(&mut connection)
            .ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_that_sentinels_name_is_used_and_followed_over_a_failover() {
    let replicated = || vec![("repl-diskless-sync-delay", "0".to_owned())];
    let mut master = Redis::start_with(Options {
        settings: replicated(),
        ..Options::default()
    });
    let replica = Redis::start_with(Options {
        settings: replicated(),
        ..Options::default()
    });
    let port = master.address().port().to_string();
    let _: String = replica.ask(&["REPLICAOF", "127.0.0.1", &port]);
    let sentinels = [(); 3].map(|()| Sentinel::start(&master, "word"));
    eventually(
        SOON,
        "the sentinels know each other and the replica",
        || {
            let all = sentinels.iter().all(|sentinel| {
                sentinel.knows("word").is_some_and(|known| {
                    known["num-other-sentinels"] == "2"
                        && known["num-slaves"] == "1"
                        && known["flags"] == "master"
                })
            });
            all.then_some(())
        },
    );
    let dead = Port::reserve();
    let mut nodes = vec![format!("redis://{}", dead.address())];
    nodes.extend(
        sentinels
            .iter()
            .map(|sentinel| format!("redis://{}", sentinel.port.address())),
    );
    // Each sentinel has a fifth of the time for a connection.
    let setup = short(&nodes.join(","))
        .with("redis.connect_timeout_ms", 15_000)
        .with("redis.mode", "sentinel")
        .with("redis.sentinel_password", "word");
    let unknown = setup.clone().with("redis.sentinel_master", "nobody");
    let setup = setup.with("redis.sentinel_master", MASTER);
    let service = Service::start_ready(setup).await;
    whole(&service).await;
    acknowledged(&service, SETTLEMENTS, &values(1, 1, 2, 5)).await;
    let doctor = Said::of(service.run(&["doctor"]));
    doctor.line(&["ok", "redis.settle"]);

    let nobody = Service::start_ready(unknown).await;
    readiness(
        &nobody,
        "degraded",
        "no sentinel knows a master of that name",
    )
    .await;

    master.kill9();
    eventually_async(
        3 * SOON,
        "settlements go to the replica that was promoted",
        async || {
            let answer = service.post(SETTLEMENTS, &values(1, 1, 3, 6)).await;
            (answer.status == 200).then_some(())
        },
    )
    .await;
    let held: u64 = replica.ask(&["EXISTS", "balance:user:1"]);
    assert_eq!(held, 1);
    whole(&service).await;
}
