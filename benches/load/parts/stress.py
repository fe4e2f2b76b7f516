"""What has no peers: ten thousand connections that wait, ten times the load that can be borne, and a long time."""

import contextlib
import dataclasses
import os
import pathlib
import socket
import statistics
import time

from . import data
from .children import listens, wait_for
from .measure import closed
from .servers import Service, start_redis

# Results a second that the database gives in the overload: its limit, not the core's.
SOURCE_RATE = 2_000
TIMES = 10
HOT_USERS, HOT_RATE, HOT_CONNECTIONS = 100, 2_000, 16
# More than the database can answer within the request's deadline.
FLOOD_CONNECTIONS = 4_000
# Tried for the most that can be borne.
PEAK_CONNECTIONS = (32, 128, 256)
WINDOW_MS = 100
STEADY_WINDOWS = 5
# Users that nobody has heard of; each is asked for once.
FIRST_STRANGER = 1_000_000_000
# How long connections that the generator closed may take to be gone, and how many files may be more than before.
CLOSED_MAX, FILES_MORE = 5, 8
SOAK_PART = 0.5
SOAK_WINDOWS_MIN = 3


@dataclasses.dataclass
class Facts:
    """A scenario's results that are not compared: rows of words."""
    name: str
    title: str
    head: list
    rows: list
    note: str = ""
    # For what had to be shown.
    shown: dict = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def idle_connections(port, count):
    """Open connections that ask nothing, each after one answer as keep-alive leaves them."""
    held = []
    try:
        request = f"GET {data.PATH.format(1)} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", port), 10)
            held.append(one)
            one.sendall(request)
            one.recv(4096)
        yield held
    finally:
        for one in held:
            one.close()


def peak_rss(child):
    text = pathlib.Path(f"/proc/{child.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM"))


def yield_core(child, policy):
    """The database has the time that the service leaves, as if it had a machine of its own."""
    for thread in child.threads():
        with contextlib.suppress(OSError):
            os.sched_setscheduler(thread, policy, os.sched_param(0))


class Strangers:
    """Reads of users that nobody asked for before."""

    def __init__(self, load):
        self.load, self.next = load, FIRST_STRANGER

    def file(self, count):
        first, self.next = self.next, self.next + count
        return self.load.file(data.reads(range(first, self.next)))


def overload(scenarios, node):
    scratch, load, seconds = scenarios.scratch, scenarios.load, max(3, scenarios.seconds)
    port = scratch.port()
    slow = scratch.start("slow-source", [load.folder / "slow_source", "--listen", f"127.0.0.1:{port}", "--target",
                                         f"127.0.0.1:{node.port}", "--rate", SOURCE_RATE])
    wait_for("its port", slow, listens(port))
    yield_core(node, os.SCHED_IDLE)
    held = {"memory.ttl_ms": 120_000, "redis.snapshot_ttl_ms": 120_000}
    service = Service(scratch, scenarios.binary, held, start_redis(scratch), node, port)
    service.warm(range(1, HOT_USERS + 1))
    strangers = Strangers(load)
    peak, at = most_cold(scenarios, service, strangers, seconds)
    hot = scratch.place() / "hot"
    hot.write_text("\n".join(data.reads(range(1, HOT_USERS + 1))) + "\n")
    first, last = seconds, seconds * 3
    end = last + max(4, seconds)

    def hits(name, since, until):
        return {"name": name, "file": hot, "rate": HOT_RATE, "connections": HOT_CONNECTIONS, "from": since, "until": until}

    before, files = service.child.rss(), service.child.files()
    done = load.steady(service.http, [
        hits("before", 0, first), hits("during", first, last), hits("after", last, end),
        {"name": "flood", "file": strangers.file(int(peak * TIMES * (last - first) * 1.2) + 1), "rate": peak * TIMES,
         "connections": FLOOD_CONNECTIONS, "from": first, "until": last},
        {"name": "usual", "file": strangers.file(int(peak * (end - last)) + 1), "rate": peak / 2, "connections": 64,
         "from": last, "until": end},
    ], WINDOW_MS)
    facts = overload_facts(done, peak, at, first, last)
    closed_by = time.monotonic() + CLOSED_MAX
    while service.child.files() > files + FILES_MORE and time.monotonic() < closed_by:
        time.sleep(0.05)
    sizes = (before, peak_rss(service.child), service.child.rss())
    facts.rows += [
        ["memory of the service: before, most, after", " / ".join(f"{size / 1e6:.1f} MB" for size in sizes)],
        ["open files: before, after", f"{files} / {service.child.files()}"]]
    yield_core(node, os.SCHED_OTHER)
    scenarios.stop(service)
    scratch.stop(slow)
    return facts


def most_cold(scenarios, service, strangers, seconds):
    """Cold reads a second, closed, and by how many connections. The first try is warm-up."""
    peak, at = 0.0, 0
    for number, connections in enumerate((PEAK_CONNECTIONS[-1], *PEAK_CONNECTIONS)):
        cold = {"name": "cold", "file": strangers.file(int(SOURCE_RATE * seconds * 2)), "connections": connections,
                "until": seconds}
        done = scenarios.load.steady(service.http, [cold])["cold"]
        rate = done["ok"] / seconds
        scenarios.say(f"  {connections} connections: {rate:.0f}/s, {done['shed']} shed, p99 {done['p99']:.1f} ms")
        if number and rate > peak:
            peak, at = rate, connections
    return peak, at


def recovered(windows, since):
    """Seconds from `since` until all answers are 200 for good, and half a second begins in which each window's median is
    at most three times what is usual in the end. (A machine that stands still later is not what is asked about.)"""
    first = round(since * 1e3 / WINDOW_MS)
    after = windows[first:]
    usual = statistics.median([one["p50"] for one in after[len(after) // 2:]] or [0.0])
    refused = [at + 1 for at, one in enumerate(after) if one["shed"] or one["other"]]
    slow = [one["p50"] > 3 * usual for one in after]
    steady = next((at for at in range(len(after)) if not any(slow[at:at + STEADY_WINDOWS])), len(after))
    return max([steady, *refused]) * WINDOW_MS / 1e3


def overload_facts(done, peak, at, first, last):
    flood, usual = done["flood"], done["usual"]
    good = flood["ok"] / (last - first)
    # A machine that stands still for a moment is not what is asked about.
    usual_p99 = {name: statistics.median(one["p99"] for one in done[name]["windows"] if one["ok"])
                 for name in ("before", "during", "after")}
    took = recovered(usual["windows"], last)
    lost = sum(done[name][what] for name in ("before", "during", "after") for what in ("shed", "other", "broken", "unanswered"))
    rows = [
        ["most cold reads, closed", f"{peak:.0f}/s ({at} connections)"],
        ["offered, 10 ×", f"{peak * TIMES:.0f}/s for {last - first} s over {FLOOD_CONNECTIONS} connections"],
        ["answered 200", f"{good:.0f}/s = {good / peak:.2f} of the most; p50 {flood['p50']:.0f} ms, p99 {flood['p99']:.0f} ms"],
        ["shed with 429 / other answers", f"{flood['shed']} / {flood['other']}"],
        ["never sent, no connection free / broken / unanswered",
         f"{flood['unsent']} / {flood['broken']} / {flood['unanswered']}"],
        ["memory hits at 2,000/s, p99 before / during / after",
         " / ".join(f"{done[name]['p99']:.3f} ms" for name in ("before", "during", "after"))],
        [f"the same, median of windows of {WINDOW_MS} ms", " / ".join(f"{one:.3f} ms" for one in usual_p99.values())],
        ["memory hits that were not answered 200", str(lost)],
        ["half of the most after it: until all are answered 200, and as fast as in the end", f"{took:.1f} s"],
    ]
    shown = {"goodput": good / peak, "hits": usual_p99["during"] / max(usual_p99["before"], 1e-6), "recovery": took,
             "lost": lost}
    return Facts("overload", "overload", ["", ""], rows,
                 f"a database that gives {SOURCE_RATE} results a second, cold reads of unknown users", shown)


def soak(scenarios, service, minutes):
    """Mixed load with settlements at half of what is possible; a row per minute."""
    load, say = scenarios.load, scenarios.say
    file = load.file(data.mixed(data.zipf(200_000), data.WRITE))
    subject = service.subject()
    rate = closed(load, subject, file, max(3, scenarios.seconds)).rate * SOAK_PART
    windows = max(SOAK_WINDOWS_MIN, round(minutes))
    length = minutes * 60 / windows
    rows, sizes, files = [], [], []
    for number in range(1, windows + 1):
        counts = service.counts()
        done = load.steady(service.http, [{"name": "all", "file": file, "rate": rate, "connections": 64,
                                           "until": length}])["all"]
        hits = service.counts()
        reads = sum(hits[name] - counts[name] for name in hits if name != "loads")
        sizes.append(service.child.rss())
        files.append(service.child.files())
        rows.append([str(number), f"{done['ok'] / length:.0f}", f"{done['p50']:.3f}", f"{done['p99']:.2f}",
                     f"{done['p999']:.2f}", str(done["shed"] + done["other"] + done["broken"] + done["unanswered"]),
                     f"{(hits['memory'] - counts['memory']) / max(reads, 1):.2%}", f"{sizes[-1] / 1e6:.1f}", str(files[-1])])
        say(f"  minute {number}: {' '.join(rows[-1][1:])}")
    # The first fifth is warm-up.
    base = max(0, len(sizes) // 5 - 1)
    growth = sizes[-1] / sizes[base] - 1
    head = ["minute", "200/s", "p50 ms", "p99 ms", "p99.9 ms", "not 200", "memory hits", "RSS MB", "open files"]
    return Facts("soak", f"soak, {minutes:g} minutes, mixed, {rate:.0f}/s", head, rows,
                 f"RSS {growth:+.1%} and {files[-1] - files[base]:+d} open files since minute {base + 1}",
                 {"growth": growth, "files": files[-1] - files[base]})
