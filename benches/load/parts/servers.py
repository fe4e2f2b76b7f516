"""What is measured, and the stores behind it: the service, Redis, Cassandra."""

import dataclasses
import json
import os
import pathlib
import re
import socket
import subprocess
import time

from .children import SERVER_CORE, START_MAX, Client, Failed, listens, wait_for
from .data import PATH, USERS, WRITE, body, entries

ROOT = pathlib.Path(__file__).resolve().parents[3]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "balance-cache-test"
CASSANDRA = "5.0.6"
JARS = pathlib.Path(os.environ.get("BALANCE_CACHE_TEST_CASSANDRA_LIB") or CACHE / f"cassandra-{CASSANDRA}" / "lib")
# Entries of one request; the service takes a thousand.
ENTRIES = 500
# A store is at rest when it takes less than this part of a core; how long that is looked at, and waited for.
RESTING, LOOK, REST_MAX = 0.05, 0.5, 15


@dataclasses.dataclass
class Subject:
    """Somebody who answers: ours, or a peer."""
    name: str
    port: int
    server: list
    store: list = dataclasses.field(default_factory=list)
    path: str = PATH
    # What it may answer instead of the right body: a test of the body, or nothing.
    accepts: object = None
    service: object = None

    def cpu(self):
        """Nanoseconds so far: of the server, and of each store by its name."""
        return {"server": sum(child.cpu() for child in self.server)} | {child.name: child.cpu() for child in self.store}

    def rest(self):
        """Waits, boundedly, until the stores have done what they were asked before: compaction, compilation."""
        end = time.monotonic() + REST_MAX
        for child in self.store:
            while child.name == "cassandra" and time.monotonic() < end:
                before = child.cpu()
                time.sleep(LOOK)
                if child.cpu() - before < RESTING * LOOK * 1e9:
                    break

    def check(self, users, patience=0.0):
        """That it answers right to these users, byte for byte; a view may take some patience."""
        client, end = Client(self.port), time.monotonic() + patience
        for user in users:
            while True:
                status, got = client.ask("GET", self.path.format(user))
                if status == 200 and (self.accepts(user, got) if self.accepts else got == body(user)):
                    break
                if time.monotonic() >= end:
                    raise Failed(f"{self.name}, user {user}: {status} {got!r}, and not {body(user)!r}")
                time.sleep(0.05)
        client.close()


# --- stores -----------------------------------------------------------------------------------------------------------

def start_redis(scratch, core=SERVER_CORE):
    port = scratch.port()
    redis = scratch.start("redis", ["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly",
                                    "no", "--maxclients", 4000], core)
    redis.port = port
    wait_for("its port", redis, listens(port))
    return redis


def fill_redis(redis, users=range(1, USERS + 1)):
    """`body:<id>` for the peers: the rendered body."""
    with socket.create_connection(("127.0.0.1", redis.port), 10) as filled:
        words = []
        for user in users:
            key, value = f"body:{user}".encode(), body(user)
            words.append(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(value), value))
        for at in range(0, len(words), 500):
            part = words[at:at + 500]
            filled.sendall(b"".join(part))
            got = b""
            while len(got) < 5 * len(part):
                got += filled.recv(65536)
            if got != b"+OK\r\n" * len(part):
                raise Failed("Redis does not take the bodies")


EXPORTS = """java.base/jdk.internal.misc java.base/jdk.internal.ref java.base/sun.nio.ch
 java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry java.rmi/sun.rmi.server java.sql/java.sql
 jdk.unsupported/sun.misc"""
OPENS = """java.base/java.lang.module java.base/jdk.internal.loader java.base/jdk.internal.ref
 java.base/jdk.internal.reflect java.base/jdk.internal.math java.base/jdk.internal.module java.base/jdk.internal.util.jar
 java.base/jdk.internal.misc java.base/sun.nio.ch java.base/java.io java.base/java.util java.base/java.util.concurrent
 java.base/java.util.concurrent.atomic java.base/java.nio java.base/java.lang java.base/java.lang.ref
 java.base/java.lang.reflect java.base/java.math java.base/java.net java.base/java.time
 jdk.management/com.sun.management.internal"""
LOGBACK = """<configuration><appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
<encoder><pattern>%-5level %date{ISO8601} %F:%L - %msg%n</pattern></encoder></appender>
<root level="INFO"><appender-ref ref="OUT"/></root></configuration>"""
YAML = """cluster_name: load
num_tokens: 1
initial_token: "0"
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
authenticator: AllowAllAuthenticator
commitlog_sync: periodic
commitlog_sync_period: 1000ms
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
      - seeds: "127.0.0.1:{storage}"
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: {storage}
native_transport_port: {port}
start_native_transport: true
materialized_views_enabled: true
auto_snapshot: false
auto_bootstrap: false
key_cache_size: 16MiB
row_cache_size: 0MiB
counter_cache_size: 0MiB
file_cache_size: 64MiB
memtable_heap_space: 128MiB
memtable_offheap_space: 128MiB
concurrent_reads: 16
concurrent_writes: 16
read_request_timeout: 20s
write_request_timeout: 20s
"""


def start_cassandra(scratch):
    """A node as in the tests, compiled well."""
    if not (JARS / f"cassandra-all-{CASSANDRA}.jar").exists():
        raise Failed(f"Cassandra's jars are not in {JARS}: ./test fetches them")
    folder, port, storage = scratch.place(), scratch.port(), scratch.port()
    (folder / "cassandra.yaml").write_text(YAML.format(folder=folder, port=port, storage=storage))
    (folder / "logback.xml").write_text(LOGBACK)
    command = ["java", f"-javaagent:{JARS}/jamm-0.4.0.jar", "-Xms512m", "-Xmx1g", "-XX:+UseSerialGC",
               "-Djdk.attach.allowAttachSelf=true", f"-Dcassandra.config=file://{folder}/cassandra.yaml",
               f"-Dcassandra.storagedir={folder}", f"-Dlogback.configurationFile={folder}/logback.xml",
               "-Dcassandra-foreground=yes", "-Dcassandra.skip_wait_for_gossip_to_settle=0", "-Dcassandra.ring_delay_ms=1",
               "-Dcassandra.superuser_setup_delay_ms=-1", "-Dcassandra.test.flush_local_schema_changes=false",
               "-Dcassandra.unsafesystem=true"]
    for flag, packages in (("--add-exports", EXPORTS), ("--add-opens", OPENS)):
        for package in packages.split():
            command += [flag, f"{package}=ALL-UNNAMED"]
    command += ["-cp", f"{JARS}/*", "org.apache.cassandra.service.CassandraDaemon"]
    node = scratch.start("cassandra", command)
    node.port = port
    wait_for("Startup complete", node, lambda: "Startup complete" in pathlib.Path(node.log).read_text(errors="replace"))
    return node


# --- the service ------------------------------------------------------------------------------------------------------

class Service:
    """An instance of the binary, with a store of its own or with these."""

    def __init__(self, scratch, binary, settings=None, redis=None, node=None, source_port=None, core=SERVER_CORE):
        self.scratch, self.redis, self.node = scratch, redis, node
        self.http, self.ops = scratch.port(), scratch.port()
        self.settings = {"http.listen": f"127.0.0.1:{self.http}", "ops.listen": f"127.0.0.1:{self.ops}",
                         "telemetry.log": "warn", **(settings or {})}
        if redis:
            self.settings["redis.url"] = f"redis://127.0.0.1:{redis.port}"
        if node:
            self.settings |= {"source.kind": "scylla", "scylla.nodes": f"127.0.0.1:{source_port or node.port}"}
        else:
            self.settings |= {"embedded.path": str(scratch.place() / "ledger.redb"), "embedded.sample_data": "false"}
        self.env = {"BALANCE_CACHE__" + key.replace(".", "__").upper(): str(value)
                    for key, value in self.settings.items()}
        if node:
            self._schema(binary)
        self.child = scratch.start("balance-cache", [binary], core, self.env)
        self.api, self.operators = Client(self.http), Client(self.ops)
        wait_for("ready", self.child, lambda: self.operators.ask("GET", "/readyz")[1] == b'{"status":"ready"}')

    def _schema(self, binary):
        done = subprocess.run([binary, "schema", "apply"], env={**os.environ, **self.env}, cwd=self.scratch.folder,
                              capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise Failed(f"schema apply: {done.stdout}{done.stderr}")

    def post(self, path, value):
        status, answer = self.api.ask("POST", path, json.dumps(value))
        if status != 200:
            raise Failed(f"{path}: {status} {answer!r}")
        return json.loads(answer)["data"]

    def seed(self):
        """All users' entries into the ledger."""
        every = entries(range(1, USERS + 1))
        end = time.monotonic() + START_MAX
        for at in range(0, len(every), ENTRIES):
            while True:
                # The same again is no error.
                try:
                    self.post(WRITE, every[at:at + ENTRIES])
                    break
                except Failed:
                    if time.monotonic() >= end:
                        raise

    def warm(self, users=range(1, USERS + 1)):
        """Loads them; again where the database, just started, did not keep up."""
        end = time.monotonic() + START_MAX
        while (done := self.post("/api/v1/cache/warm", {"user_ids": list(users)}))["failed"]:
            if time.monotonic() >= end:
                raise Failed(f"warm: {done}")

    def counts(self):
        """Reads by who answered, and `loads`: what the source was asked for by reads."""
        text = self.operators.ask("GET", "/metrics")[1].decode()
        found = {name: float(value) for name, value in
                 re.findall(r'^balance_cache_reads_total\{outcome="(\w+)"\} (\S+)$', text, re.M)}
        loads = re.findall(r'^balance_cache_tier_seconds_count\{(?=[^}]*tier="source")(?=[^}]*op="(?:get|load)")[^}]*\} (\S+)$',
                           text, re.M)
        found["loads"] = sum(map(float, loads))
        return found

    def subject(self, name="balance-cache"):
        store = [child for child in (self.redis, self.node) if child]
        return Subject(name, self.http, [self.child], store, service=self)

    def stop(self):
        self.api.close()
        self.operators.close()
        self.scratch.stop(self.child)


def first_asset_only(user, got):
    """What the seed's query answers: one asset of three."""
    return json.loads(got)["data"] == json.loads(body(user))["data"][:1]
