"""One measurement: load on a subject, and what it cost by the scheduler's account.

Closed: wrk, 64 connections, each asks again as soon as it was answered: what the subject can do, and CPU time per request.
Open: `steady`, requests due at random times at a given rate: latency as clients see it who do not wait for each other.
"""

import dataclasses
import json
import statistics
import subprocess

from .children import LOAD_CORE, Failed

CONNECTIONS = 64
# Of what the slower of ours and the subject can do.
OPEN_PART = 0.7
# More than that a second fills the core of who asks: what would be measured then is that core.
OPEN_MAX = 90_000
# What a generator may take longer than it was told to.
GRACE = 20
# A warm-up's length, at most.
WARM_UP = 3.0


@dataclasses.dataclass
class Figures:
    """One measurement, or the medians of several."""
    rate: float = 0.0
    # Microseconds per request: of the server, and of each store by its name.
    parts: dict = dataclasses.field(default_factory=dict)
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    busy: float = 0.0
    open_rate: float = 0.0
    open_p99: float = 0.0
    open_p999: float = 0.0
    hits: dict = dataclasses.field(default_factory=dict)
    # Answers that were not 200, and requests that got none.
    bad: int = 0
    # CPU of the best and the worst round.
    least: float = 0.0
    most: float = 0.0

    @property
    def cpu(self):
        """Microseconds per request, server and stores."""
        return sum(self.parts.values())


class Load:
    """The generators."""

    def __init__(self, scratch, folder, here):
        self.scratch, self.folder, self.lua = scratch, folder, here / "wrk.lua"

    def file(self, lines):
        path = self.scratch.place() / "requests"
        path.write_text("\n".join(lines) + "\n")
        return path

    def _run(self, command, seconds):
        command = ["taskset", "-c", str(LOAD_CORE), *map(str, command)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE, check=False)
        except subprocess.TimeoutExpired as late:
            raise Failed(f"{command[3]} did not end after {seconds + GRACE:.0f} s") from late
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)}: {done.stdout[-500:]}{done.stderr[-1500:]}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def closed(self, port, file, seconds, connections=CONNECTIONS, headers=()):
        seconds = max(1, round(seconds))
        command = ["wrk", "-t", 1, "-c", connections, "-d", f"{seconds}s", "--timeout", "10s", "-s", self.lua]
        for header in headers:
            command += ["-H", header]
        return self._run([*command, f"http://127.0.0.1:{port}/", "--", file], seconds)

    def steady(self, port, classes, window_ms=0):
        """Classes as dicts of `steady`'s words; gives them back by name, with what happened."""
        command = [self.folder / "steady", "--target", f"127.0.0.1:{port}", "--window-ms", window_ms]
        for one in classes:
            command += ["--class", " ".join(f"{name}={value}" for name, value in one.items())]
        end = max(one.get("until", 10) for one in classes)
        return {one["name"]: one for one in self._run(command, end)["classes"]}


def shares(before, after):
    """Of reads, by who answered; and loads of the source per read."""
    total = sum(after[name] - before.get(name, 0) for name in after if name != "loads")
    return {name: (after[name] - before.get(name, 0)) / total for name in after
            if total and after[name] > before.get(name, 0)}


def closed(load, subject, file, seconds, headers=(), per=1, connections=CONNECTIONS):
    """One round of wrk; `per`: what a request counts as, in users or reads."""
    subject.rest()
    counts = subject.service.counts() if subject.service else None
    before = subject.cpu()
    result = load.closed(subject.port, file, seconds, connections, headers)
    after = subject.cpu()
    if not result["requests"]:
        raise Failed(f"{subject.name}: no answers")
    parts = {name: (after[name] - before[name]) / 1e3 / result["requests"] / per for name in after}
    hits = shares(counts, subject.service.counts()) if subject.service else {}
    return Figures(rate=result["requests"] / result["seconds"], parts=parts, p50=result["p50"], bad=result["bad"] + result["broken"],
                   p99=result["p99"], p999=result["p999"], hits=hits,
                   busy=sum(parts.values()) * per * result["requests"] / result["seconds"] / 1e6)


def opened(load, subject, file, rate, seconds):
    """One round of `steady`: p99, p99.9 in milliseconds, and how many were not answered 200."""
    result = load.steady(subject.port, [{"name": "all", "file": file, "rate": f"{rate:.1f}", "connections": CONNECTIONS,
                                         "until": seconds}])["all"]
    bad = result["other"] + result["shed"] + result["broken"] + result["unanswered"]
    return result["p99"], result["p999"], bad


def medians(rounds):
    """Of each figure; the spread of the CPU time beside it."""
    if not rounds:
        raise Failed("nothing was measured")
    whole = Figures()
    for field in dataclasses.fields(Figures):
        if field.name in ("hits", "parts"):
            every = [getattr(one, field.name) for one in rounds]
            names = {name: None for one in every for name in one}
            setattr(whole, field.name, {name: statistics.median(one.get(name, 0.0) for one in every) for name in names})
        elif field.name not in ("least", "most", "bad"):
            setattr(whole, field.name, statistics.median(getattr(one, field.name) for one in rounds))
    whole.bad = sum(one.bad for one in rounds)
    whole.least, whole.most = min(one.cpu for one in rounds), max(one.cpu for one in rounds)
    return whole


def compare(load, subjects, lines, seconds, rounds, say, headers=(), per=1, with_open=True, connections=CONNECTIONS):
    """Interleaved rounds: in each, everybody is measured once, closed, then open. Medians by name; ours is the first.

    `lines`: the requests; `per`: what a request counts as. Either may be a function of the subject.
    """
    shared = None if callable(lines) else load.file(lines)
    files = {subject.name: shared or load.file(lines(subject)) for subject in subjects}
    parts = {subject.name: per(subject) if callable(per) else per for subject in subjects}
    for subject in subjects:
        closed(load, subject, files[subject.name], min(seconds, WARM_UP), headers, 1, connections)
    results = {subject.name: [] for subject in subjects}
    for number in range(1, rounds + 1):
        for subject in subjects:
            figures = closed(load, subject, files[subject.name], seconds, headers, parts[subject.name], connections)
            results[subject.name].append(figures)
            say(f"  round {number} {subject.name}: {figures.rate:.0f}/s, {figures.cpu:.2f} µs")
        for subject in subjects if with_open else ():
            able = min(statistics.median(one.rate for one in results[name]) for name in (subject.name, subjects[0].name))
            figures = results[subject.name][-1]
            figures.open_rate = min(able * OPEN_PART, OPEN_MAX)
            figures.open_p99, figures.open_p999, bad = opened(load, subject, files[subject.name], figures.open_rate, seconds)
            figures.bad += bad
            say(f"  round {number} {subject.name}: p99 {figures.open_p99:.3f} ms at {figures.open_rate:.0f}/s")
    return {name: medians(of) for name, of in results.items()}
