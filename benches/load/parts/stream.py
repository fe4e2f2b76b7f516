"""Settlements by the stream, for users who are held, while reads go on."""

import dataclasses
import itertools
import re
import socket
import statistics
import threading
import time

from . import data
from .children import LOAD_CORE, Failed
from .measure import closed
from .servers import Service, start_redis
from .stress import Facts

# Notifications a second that have to be kept up with.
RATE = 20_000
# What counts as as many: the clock of who sends is not that of who counts.
NEARLY = 0.99
# Notifications that wait when an instance comes back.
BACKLOG = 200_000
# Those that are written to again and again: all of them are held.
WRITTEN_USERS = 1_000
# Commands of one write to Redis.
TOGETHER = 100
FIRST_SEQ = 1_000
DRAIN_MAX = 60


class Producer:
    """Whoever settles: rising seqs for each user and asset in turn, with values."""

    def __init__(self, redis):
        self.wire = socket.create_connection(("127.0.0.1", redis.port), 10)
        self.numbers = itertools.count()
        threading.Thread(target=self._discard, daemon=True).start()

    def _discard(self):
        try:
            while self.wire.recv(1 << 20):
                pass
        except OSError:
            pass

    def _command(self):
        turn, at = divmod(next(self.numbers), WRITTEN_USERS * len(data.ASSETS))
        user, (asset, _, _) = at // len(data.ASSETS) + 1, data.ASSETS[at % len(data.ASSETS)]
        seq = FIRST_SEQ + turn
        words = ("XADD", "settlement:events", "*", "user_id", user, "asset_id", asset, "seq", seq,
                 "avail", seq * data.UNIT, "frozen", 0, "created_at", data.CREATED)
        texts = [str(word).encode() for word in words]
        return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%s\r\n" % (len(text), text) for text in texts)

    def send(self, count):
        """At once."""
        for at in range(0, count, TOGETHER):
            self.wire.sendall(b"".join(self._command() for _ in range(min(TOGETHER, count - at))))

    def keep_up(self, rate, stop):
        """So many a second until `stop` is set; how many a second it came to."""
        begun, sent = time.monotonic(), 0
        while not stop.is_set():
            due = int((time.monotonic() - begun) * rate)
            if due - sent >= TOGETHER:
                self.send(TOGETHER)
                sent += TOGETHER
            else:
                time.sleep(0.001)
        return sent / (time.monotonic() - begun)


def applied(service):
    text = service.operators.ask("GET", "/metrics")[1].decode()
    found = re.findall(r'^balance_cache_notifications_total\{(?=[^}]*via="stream")[^}]*result="(\w+)"[^}]*\} (\S+)$', text, re.M)
    counts = {result: float(value) for result, value in found}
    if counts.get("invalid") or counts.get("failed"):
        raise Failed(f"notifications: {counts}")
    return counts["applied"]


def beside(load, subject, file, seconds, producer, redis):
    """Reads, while notifications come: the reads, notifications taken a second, CPU of Redis for each, what waited at the end."""
    stop, rates = threading.Event(), []
    thread = threading.Thread(target=lambda: rates.append(producer.keep_up(RATE, stop)))
    before, cpu, begun = applied(subject.service), redis.cpu(), time.monotonic()
    thread.start()
    try:
        figures = closed(load, subject, file, seconds)
        took = applied(subject.service) - before
        length = time.monotonic() - begun
        each = (redis.cpu() - cpu) / 1e3 / took
    finally:
        stop.set()
        thread.join()
    return figures, took / length, each, rates[0]


def drain(service, redis, producer):
    """A backlog that came while the instance stood still: notifications a second, CPU of the service and of Redis for each."""
    service.child.process.send_signal(19)
    producer.send(BACKLOG)
    time.sleep(1)
    before = [service.child.cpu(), redis.cpu()]
    service.child.process.send_signal(18)
    begun = time.monotonic()
    start = applied(service)
    while (done := applied(service) - start) < BACKLOG * 0.95:
        if time.monotonic() - begun > DRAIN_MAX:
            raise Failed(f"{done} of {BACKLOG} were applied in {DRAIN_MAX} s")
        time.sleep(0.05)
    length = time.monotonic() - begun
    return [done / length, *((child.cpu() - old) / 1e3 / done for child, old in zip((service.child, redis), before))]


def stream(scenarios, held):
    scratch, load = scenarios.scratch, scenarios.load
    redis = start_redis(scratch, LOAD_CORE)
    service = Service(scratch, scenarios.binary, held, redis)
    service.seed()
    service.warm()
    subject = dataclasses.replace(service.subject(), store=[])
    producer = Producer(redis)
    file = load.file(data.reads(data.zipf(200_000)))
    alone, together = [], []
    closed(load, subject, file, 2)
    for number in range(1, scenarios.rounds + 1):
        alone.append(closed(load, subject, file, scenarios.seconds))
        together.append(beside(load, subject, file, scenarios.seconds, producer, redis))
        figures, took, each, sent = together[-1]
        scenarios.say(f"  round {number}: {alone[-1].rate:.0f} reads/s alone; {figures.rate:.0f} beside {took:.0f} notifications/s"
                      f" ({sent:.0f} sent), {figures.hits.get('memory', 0):.2%} from memory")
    drained = [drain(service, redis, producer) for _ in range(scenarios.rounds)]
    middle = lambda values: statistics.median(list(values))  # noqa: E731
    ratio = middle(two[0].rate / one.rate for one, two in zip(alone, together))
    rows = [
        ["reads a second, alone", f"{middle(one.rate for one in alone):.0f}"],
        ["reads a second beside notifications", f"{middle(two[0].rate for two in together):.0f}"],
        ["of the rate alone (median of the rounds' ratios)", f"{ratio:.2f}"],
        ["of them from memory", f"{middle(two[0].hits.get('memory', 0) for two in together):.2%}"],
        ["notifications sent / taken a second", f"{middle(two[3] for two in together):.0f} / {middle(two[1] for two in together):.0f}"],
        ["Redis, CPU per notification", f"{middle(two[2] for two in together):.1f} µs"],
        [f"a backlog of {BACKLOG}, nobody reads: taken a second", f"{middle(one[0] for one in drained):.0f}"],
        ["CPU of service / Redis per notification then", f"{middle(one[1] for one in drained):.1f} / {middle(one[2] for one in drained):.1f} µs"],
    ]
    scenarios.stop(service)
    return Facts("stream", "settlements by the stream", ["", ""], rows,
                 f"values for {WRITTEN_USERS} users who are held; Redis, the settling side and the readers share one core, the service has the other",
                 {"ratio": ratio, "taken": middle(two[1] for two in together)})
