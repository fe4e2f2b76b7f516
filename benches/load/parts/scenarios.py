"""What is compared with peers: each scenario starts its servers, checks all answers, measures, and stops them."""

import dataclasses

from . import data, stream, stress
from .children import answer_length
from .measure import closed, compare
from .servers import Service, fill_redis, start_cassandra, start_redis

# Long enough that nothing held ends while it is measured; Redis' entry ends memory's, and a floor outlives both.
HELD = {"memory.ttl_ms": 250_000, "redis.snapshot_ttl_ms": 250_000}
# Memory keeps nothing that is asked for again.
REDIS_ONLY = {"memory.ttl_ms": 1, "redis.snapshot_ttl_ms": 250_000}
# What is notified is nowhere else: Redis' entry outlives the scenario, and memory's ends as usual.
NOTIFIED = {"redis.snapshot_ttl_ms": 550_000}
# Reads in a request where each hundredth of them is followed by a settlement.
PER_READ = data.SETTLEMENT_EACH / (data.SETTLEMENT_EACH + 1)
# Nothing is held until a sweep over all users comes back to one, and an instance knows after four seconds that the view
# may be asked alone.
NOTHING_HELD = {"memory.ttl_ms": 1, "redis.snapshot_ttl_ms": 400, "settlement.max_staleness_ms": 100,
                "settlement.floor_ttl_ms": 4_000}
SWEEP_KNOWS = 5.0
# For a database that has just started and is given everything at once.
PATIENT = {"source.timeout_ms": 20_000, "limits.deadline_ms": 40_000}
LINES = 200_000
# How long the view may take to show what the ledger has.
VIEW_PATIENCE = 20
BATCH = 100
# As many users at a time as one connection each would be some hundred: more would only wait for each other.
BATCH_CONNECTIONS = 8
IDLE = 10_000
# Of users whose answers are compared byte for byte with what was written.
CHECKED = sorted({1, 2, 3, data.USERS, *data.uniform(40)})
CONSTANTS = ("hyper", "nginx-return", "nginx-lua-dict")
CACHES = ("axum-redis", "webdis", "nginx-lua-redis", "node-redis", "express-redis")
VIEWS = ("axum-view", "axum-view-seed")


@dataclasses.dataclass
class Section:
    """One scenario's rows: figures by name, ours first."""
    name: str
    title: str
    figures: dict
    note: str = ""


class Scenarios:
    """All of them, by name; what they share is started once."""

    def __init__(self, scratch, binary, load, peers, options, say):
        self.scratch, self.binary, self.load, self.peers = scratch, binary, load, peers
        self.options, self.seconds, self.rounds, self.say = options, options.seconds, options.rounds, say
        self.node, self.used = None, False

    # --- what they stand on ---

    def embedded(self, settings):
        """An instance with its own ledger and Redis, all users written and warm."""
        service = Service(self.scratch, self.binary, settings, start_redis(self.scratch))
        service.seed()
        service.warm()
        service.subject().check(CHECKED)
        return service

    def cassandra(self):
        """The node, with all users in its ledger and view, and nothing else. They are written by an instance of their own."""
        if self.used:
            self.scratch.stop(self.node)
            self.node, self.used = None, False
        if self.node is None:
            self.say("Cassandra starts and is filled")
            self.node = start_cassandra(self.scratch)
            writer = Service(self.scratch, self.binary, PATIENT, start_redis(self.scratch), self.node)
            writer.seed()
            writer.subject().check(CHECKED)
            self.stop(writer)
        return self.node

    def on_cassandra(self, settings, source_port=None):
        node = self.cassandra()
        service = Service(self.scratch, self.binary, settings, start_redis(self.scratch), node, source_port)
        service.subject().check(CHECKED)
        return service

    def stop(self, service, peers=()):
        service.stop()
        self.scratch.stop(service.redis, *(child for peer in peers for child in peer.server))

    def abandon(self):
        """After a failure: the next scenario begins with nothing."""
        self.scratch.stop(*reversed(self.scratch.children))
        self.node, self.used = None, False

    def begin(self, service, names, redis=None, node=None, length=0):
        peers = self.peers.start(names, redis, node, length)
        for peer in peers:
            peer.check(CHECKED, VIEW_PATIENCE if node else 0)
        return [service.subject(), *peers]

    def compare(self, subjects, lines, **more):
        return compare(self.load, subjects, lines, self.seconds, self.rounds, self.say, **more)

    # --- scenarios ---

    def memory(self):
        service = self.embedded(HELD)
        subjects = self.begin(service, CONSTANTS, length=answer_length(service.http, data.PATH.format(1)))
        for name, users in (("Zipf(0.99)", data.zipf(LINES)), ("uniform", data.uniform(LINES))):
            self.say(f"memory, {name}")
            yield Section("memory", f"memory, {name}", self.compare(subjects, data.reads(users)))
        self.stop(service, subjects[1:])

    def redis(self):
        service = self.embedded(REDIS_ONLY)
        store = start_redis(self.scratch)
        fill_redis(store)
        subjects = self.begin(service, CACHES, redis=store)
        users = data.uniform(LINES)
        figures = self.compare(subjects, lambda subject: data.reads(users, subject.path))
        yield Section("redis", "redis, uniform", figures)
        self.stop(service, subjects[1:])
        self.scratch.stop(store)

    def cold(self):
        service = self.on_cassandra(NOTHING_HELD)
        subjects = self.begin(service, VIEWS, node=self.node)
        everyone = data.reads(data.shuffled())
        # Until the instance knows enough to ask the view alone, and the JVM has compiled.
        for subject in subjects:
            closed(self.load, subject, self.load.file(everyone), max(self.seconds, SWEEP_KNOWS))
        yield Section("cold", "cold, each user in turn", self.compare(subjects, everyone))
        self.stop(service, subjects[1:])

    def batch(self):
        for tier, settings in (("redis", REDIS_ONLY), ("memory", HELD)):
            service = self.embedded(settings)
            users = data.uniform(LINES)
            figures = {}
            singles = self.compare([service.subject()], data.reads(users), with_open=False)
            figures["one user per request"] = singles["balance-cache"]
            many = self.compare([service.subject()], data.batches(users, BATCH), per=BATCH, with_open=False,
                                connections=BATCH_CONNECTIONS)
            figures[f"{BATCH} users per request"] = many["balance-cache"]
            yield Section("batch", f"batch, {tier}", figures, "CPU is per user; rate and latency are per request")
            self.stop(service)

    def mixed(self):
        """Settlements notified to ours while the peers only read; then settlements that everybody writes to the ledger."""
        users = data.zipf(LINES)
        reads = data.reads(users)
        for name, title, settings, of_ours, of_peers, note in (
            ("mixed", "settlements notified", NOTIFIED, data.mixed(users, data.NOTIFY), reads,
             "CPU is per read; nobody writes the ledger, and the peers are not told anything"),
            ("written", "settlements written", {}, data.mixed(users, data.WRITE), data.mixed(users, data.WRITE),
             "CPU is per read; everybody writes the ledger, and histories grow with the rounds")):
            service = self.on_cassandra(settings)
            self.used = True
            service.warm()
            subjects = self.begin(service, VIEWS, node=self.node)
            for subject in subjects:
                lines = of_ours if subject.service else of_peers
                closed(self.load, subject, self.load.file(lines), max(self.seconds, SWEEP_KNOWS))
            figures = self.compare(subjects, lambda subject: of_ours if subject.service else of_peers,
                                   per=lambda subject: 1 if not subject.service and of_peers is reads else PER_READ)
            yield Section(name, f"mixed, Zipf(0.99), {title}, 1 % of reads", figures, note)
            self.stop(service, subjects[1:])

    def churn(self):
        service = self.embedded(HELD)
        subjects = self.begin(service, CONSTANTS[:2], length=answer_length(service.http, data.PATH.format(1)))
        lines = data.reads(data.zipf(LINES))
        figures = self.compare(subjects, lines, headers=["Connection: close"], with_open=False)
        yield Section("churn", "churn, a connection per request", figures)
        self.stop(service, subjects[1:])

    def idle(self):
        service = self.embedded({**HELD, "limits.header_timeout_ms": 600_000})
        subjects = self.begin(service, CONSTANTS[:2], length=answer_length(service.http, data.PATH.format(1)))
        lines = data.reads(data.zipf(LINES))
        yield Section("idle", "idle, nobody else", self.compare(subjects, lines))
        figures, notes = {}, []
        # One after the other: this process may not have files enough for all.
        for subject in subjects:
            before = subject.server[0].rss()
            with stress.idle_connections(subject.port, IDLE):
                notes.append(f"{subject.name} {(subject.server[0].rss() - before) / IDLE / 1024:.1f} KiB")
                figures |= self.compare([subject], lines)
        yield Section("idle", f"idle, {IDLE} connections that wait", figures, "memory for each that waits: " + ", ".join(notes))
        self.stop(service, subjects[1:])

    def overload(self):
        node = self.cassandra()
        yield stress.overload(self, node)

    def stream(self):
        yield stream.stream(self, HELD)

    def soak(self):
        service = self.on_cassandra({})
        self.used = True
        service.warm()
        yield stress.soak(self, service, self.options.minutes)
        self.stop(service)
