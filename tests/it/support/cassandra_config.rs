//! What a Cassandra node of the tests is told: its Java arguments, `cassandra.yaml`, `logback.xml`.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::{Compiled, Options, Seat};

/// Puts the files that a node reads into its folder.
pub fn write_files(folder: &Path, seat: &Seat, options: &Options) {
    fs::write(folder.join("cassandra.yaml"), yaml(folder, seat, options)).unwrap();
    fs::write(folder.join("logback.xml"), LOGBACK).unwrap();
}

/// What `java` is called with.
pub fn java_arguments(folder: &Path, seat: &Seat, options: &Options) -> Vec<String> {
    const EXPORTS: &str = "java.base/jdk.internal.misc java.base/jdk.internal.ref java.base/sun.nio.ch \
    java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry java.rmi/sun.rmi.server \
    java.sql/java.sql jdk.unsupported/sun.misc";
    const OPENS: &str = "java.base/java.lang.module java.base/jdk.internal.loader java.base/jdk.internal.ref \
    java.base/jdk.internal.reflect java.base/jdk.internal.math java.base/jdk.internal.module \
    java.base/jdk.internal.util.jar java.base/jdk.internal.misc java.base/sun.nio.ch java.base/java.io \
    java.base/java.util java.base/java.util.concurrent java.base/java.util.concurrent.atomic \
    java.base/java.nio java.base/java.lang java.base/java.lang.ref java.base/java.lang.reflect \
    java.base/java.math java.base/java.net java.base/java.time jdk.management/com.sun.management.internal";
    let jars = jars();
    let (folder, jars) = (folder.display(), jars.display());
    let mut arguments: Vec<String> = [
        &format!("-javaagent:{jars}/jamm-0.4.0.jar"),
        "-Xms256m",
        "-Xmx1g",
        "-XX:+UseSerialGC",
        "-Djdk.attach.allowAttachSelf=true",
        &format!("-Dcassandra.config=file://{folder}/cassandra.yaml"),
        &format!("-Dcassandra.storagedir={folder}"),
        &format!("-Dlogback.configurationFile={folder}/logback.xml"),
        // Else it closes its standard output before it says that it is up.
        "-Dcassandra-foreground=yes",
        "-Dcassandra.skip_wait_for_gossip_to_settle=0",
        "-Dcassandra.ring_delay_ms=1",
        "-Dcassandra.superuser_setup_delay_ms=-1",
        // A node that missed a change of the schema, as on a busy machine, would ask for it a minute later.
        "-Dcassandra.schema_pull_interval_ms=1000",
        "-Dcassandra.migration_delay_ms=1000",
    ]
    .map(str::to_owned)
    .into();
    if options.compiled == Compiled::Quickly {
        arguments.push("-XX:TieredStopAtLevel=1".to_owned());
    }
    if !options.durable {
        // Each change of the schema would be flushed table by table: more than half a second.
        arguments.push("-Dcassandra.test.flush_local_schema_changes=false".to_owned());
        arguments.push("-Dcassandra.unsafesystem=true".to_owned());
    }
    if options.replaces {
        let own = format!("-Dcassandra.replace_address_first_boot={}", seat.ip);
        arguments.push(own);
    }
    let flags = [("--add-exports", EXPORTS), ("--add-opens", OPENS)];
    for (flag, packages) in flags {
        for package in packages.split_whitespace() {
            arguments.extend([flag.to_owned(), format!("{package}=ALL-UNNAMED")]);
        }
    }
    let class = "org.apache.cassandra.service.CassandraDaemon".to_owned();
    arguments.extend(["-cp".to_owned(), format!("{jars}/*"), class]);
    arguments
}

#[expect(
    clippy::disallowed_methods,
    reason = "where the jars are is told by the environment"
)]
fn jars() -> PathBuf {
    let folder = env::var_os("BALANCE_CACHE_TEST_CASSANDRA_LIB").map_or_else(
        || {
            let home = PathBuf::from(env::var_os("HOME").expect("HOME is set"));
            home.join(".cache/balance-cache-test/cassandra-5.0.6/lib")
        },
        PathBuf::from,
    );
    assert!(
        folder.join("cassandra-all-5.0.6.jar").exists(),
        "these tests need a real Cassandra: its jars are not in {}; ./test fetches them, or name their folder in \
         BALANCE_CACHE_TEST_CASSANDRA_LIB",
        folder.display()
    );
    folder
}

const LOGBACK: &str = r#"<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level %date{ISO8601} %F:%L - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="OUT"/></root>
</configuration>
"#;

/// With a password, rights are checked too.
const fn rights(password: bool) -> &'static str {
    if password {
        "authenticator: PasswordAuthenticator\nauthorizer: CassandraAuthorizer\npermissions_validity: 100ms"
    } else {
        "authenticator: AllowAllAuthenticator\nauthorizer: AllowAllAuthorizer"
    }
}

/// The nodes that it asks for the others. A seed would not read from them what it lacks, so one that replaces another is none.
fn seeds_of(seat: &Seat, options: &Options) -> String {
    let seeds = seat.seeds.iter();
    let seeds = seeds.filter(|seed| !options.replaces || **seed != seat.ip);
    let seeds: Vec<String> = seeds
        .map(|seed| format!("{seed}:{}", seat.storage))
        .collect();
    seeds.join(",")
}

/// One that replaces another takes the token of that.
fn first_token(seat: &Seat, options: &Options) -> String {
    if options.replaces {
        return String::new();
    }
    format!("initial_token: \"{}\"", seat.token)
}

fn yaml(folder: &Path, seat: &Seat, options: &Options) -> String {
    let folder = folder.display();
    let Seat {
        ip, port, storage, ..
    } = seat;
    let seeds = seeds_of(seat, options);
    let first_token = first_token(seat, options);
    let bootstraps = options.replaces;
    let views = !options.without_views;
    let sync = if options.durable {
        "commitlog_sync: batch"
    } else {
        "commitlog_sync: periodic\ncommitlog_sync_period: 1000ms"
    };
    let rights = rights(options.password);
    let tls = options.tls.as_ref().map_or(String::new(), |pem| {
        format!(
            "client_encryption_options:\n  enabled: true\n  optional: false\n  require_client_auth: false\n  \
             ssl_context_factory:\n    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory\n  \
             keystore: {}\n",
            pem.display()
        )
    });
    // By default a write has 2 s, and a lightweight transaction less: a node on a busy machine, or its disk, stands still for longer.
    format!(
        "cluster_name: test
num_tokens: 1
{first_token}
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
{rights}
{sync}
commitlog_segment_size: 8MiB
commitlog_directory: {folder}/commitlog
data_file_directories: [{folder}/data]
saved_caches_directory: {folder}/saved_caches
hints_directory: {folder}/hints
cdc_raw_directory: {folder}/cdc_raw
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: \"{seeds}\"
listen_address: {ip}
rpc_address: {ip}
storage_port: {storage}
native_transport_port: {port}
start_native_transport: true
materialized_views_enabled: {views}
auto_snapshot: false
auto_bootstrap: {bootstraps}
key_cache_size: 16MiB
row_cache_size: 0MiB
counter_cache_size: 0MiB
file_cache_size: 64MiB
memtable_heap_space: 128MiB
memtable_offheap_space: 128MiB
concurrent_reads: 16
concurrent_writes: 16
read_request_timeout: 10s
range_request_timeout: 10s
write_request_timeout: 10s
cas_contention_timeout: 10s
tombstone_warn_threshold: 400
tombstone_failure_threshold: 500
{tls}"
    )
}
