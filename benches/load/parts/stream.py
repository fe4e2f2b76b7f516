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
from .measure import closed, opened
from .servers import Service, start_redis
from .stress import Facts

# Notifications a second that have to be kept up with.
RATE = 20_000
# What counts as as many: the clock of who sends is not that of who counts.
NEARLY = 0.99
# Reads a second that are due whatever comes beside them: as many as can be sent from a core that Redis and the settling side share.
READS = 50_000
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


def applied(service, repeats=False):
    """So far. Nothing may be refused, and nothing be tried again but where a session with Redis ended."""
    text = service.operators.ask("GET", "/metrics")[1].decode()
    found = re.findall(r'^balance_cache_notifications_total\{(?=[^}]*via="stream")[^}]*result="(\w+)"[^}]*\} (\S+)$', text, re.M)
    counts = {result: float(value) for result, value in found}
    if counts.get("invalid") or (counts.get("failed") and not repeats):
        raise Failed(f"notifications: {counts}")
    return counts["applied"]


@dataclasses.dataclass
class Beside:
    """What was read while notifications came."""
    reads: object
    sent: float
    taken: float
    # Microseconds for each notification: of Redis, and of the service beside what its reads cost.
    redis: float
    service: float


def beside(read, subject, producer, redis, each=0.0):
    """Reads, while notifications come; a read alone costs `each` microseconds."""
    stop, rates = threading.Event(), []
    thread = threading.Thread(target=lambda: rates.append(producer.keep_up(RATE, stop)))
    children = (redis, subject.service.child)
    before, cpu, begun = applied(subject.service), [child.cpu() for child in children], time.monotonic()
    reads = subject.service.counts()
    thread.start()
    try:
        result = read()
        took = applied(subject.service) - before
        length = time.monotonic() - begun
        cpu = [(child.cpu() - old) / 1e3 for child, old in zip(children, cpu)]
    finally:
        stop.set()
        thread.join()
    after = subject.service.counts()
    answered = sum(after[name] - reads.get(name, 0) for name in after if name != "loads")
    return Beside(result, rates[0], took / length, cpu[0] / took, (cpu[1] - answered * each) / took)


def drain(service, redis, producer):
    """A backlog that came while the instance stood still: notifications a second, CPU of the service and of Redis for each."""
    service.child.process.send_signal(19)
    producer.send(BACKLOG)
    time.sleep(1)
    before = [service.child.cpu(), redis.cpu()]
    service.child.process.send_signal(18)
    begun = time.monotonic()
    # It stood still for longer than a session with Redis lives: what it had in hand then is tried again.
    start = applied(service, repeats=True)
    while (done := applied(service, repeats=True) - start) < BACKLOG * 0.95:
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
    closed(load, subject, file, 2)
    alone, together, due_alone, due = [], [], [], []
    for number in range(1, scenarios.rounds + 1):
        alone.append(closed(load, subject, file, scenarios.seconds))
        together.append(beside(lambda: closed(load, subject, file, scenarios.seconds), subject, producer, redis, alone[-1].cpu))
        due_alone.append(opened(load, subject, file, READS, scenarios.seconds))
        due.append(beside(lambda: opened(load, subject, file, READS, scenarios.seconds), subject, producer, redis))
        one = together[-1]
        scenarios.say(f"  round {number}: {alone[-1].rate:.0f} reads/s alone; {one.reads.rate:.0f} beside {one.taken:.0f} notifications/s"
                      f" ({one.sent:.0f} sent), {one.reads.hits.get('memory', 0):.2%} from memory, {one.service:.1f} µs each;"
                      f" p99 of {READS}/s {due_alone[-1][0]:.2f} and {due[-1].reads[0]:.2f} ms beside {due[-1].taken:.0f}")
    drained = [drain(service, redis, producer) for _ in range(scenarios.rounds)]
    middle = lambda values: statistics.median(list(values))  # noqa: E731
    ratio = middle(two.reads.rate / one.rate for one, two in zip(alone, together))
    answered = 1 - max(two.reads[2] for two in due) / (READS * scenarios.seconds)
    taken = min(middle(two.taken for two in together), middle(two.taken for two in due))
    rows = [
        [f"{READS} reads a second are due: p99, p99.9 alone", "{:.2f}, {:.2f} ms".format(*(middle(one[at] for one in due_alone) for at in (0, 1)))],
        ["the same beside notifications", "{:.2f}, {:.2f} ms".format(*(middle(two.reads[at] for two in due) for at in (0, 1)))],
        ["of them answered (the worst round)", f"{answered:.2%}"],
        ["notifications sent / taken a second", f"{middle(two.sent for two in due):.0f} / {middle(two.taken for two in due):.0f}"],
        ["reads a second as fast as they can be asked, alone", f"{middle(one.rate for one in alone):.0f}"],
        ["the same beside notifications", f"{middle(two.reads.rate for two in together):.0f}"],
        ["of the rate alone (median of the rounds' ratios)", f"{ratio:.2f}"],
        ["the service's core is taken, alone / beside", f"{middle(one.busy for one in alone):.0%} / {middle((two.reads.busy for two in together)):.0%}"],
        ["of them from memory", f"{middle(two.reads.hits.get('memory', 0) for two in together):.2%}"],
        ["notifications sent / taken a second", f"{middle(two.sent for two in together):.0f} / {middle(two.taken for two in together):.0f}"],
        ["CPU of service / Redis per notification",
         f"{middle(two.service for two in together):.1f} / {middle(two.redis for two in together):.1f} µs"],
        [f"a backlog of {BACKLOG}, nobody reads: taken a second", f"{middle(one[0] for one in drained):.0f}"],
        ["CPU of service / Redis per notification then", f"{middle(one[1] for one in drained):.1f} / {middle(one[2] for one in drained):.1f} µs"],
    ]
    scenarios.stop(service)
    return Facts("stream", "settlements by the stream", ["", ""], rows,
                 f"values for {WRITTEN_USERS} users who are held; Redis, the settling side and the readers share one core, the service has the other:"
                 " what is asked as fast as it can be gets slower because that core is full, see how much of the service's is taken",
                 {"ratio": answered, "taken": taken})
