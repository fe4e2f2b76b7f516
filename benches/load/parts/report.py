"""The results as Markdown."""

import datetime
import os
import pathlib
import platform
import re
import subprocess

from .peers import WHAT
from .scenarios import BATCH, Section
from .servers import CASSANDRA, ROOT
from .stream import NEARLY, RATE
from .stress import FILES_MORE

OURS = "balance-cache"
HEAD = ["scenario", "who", "answered by", "requests/s", "busy", "CPU µs/request", "of it", "least–most", "ours ÷ peer",
        "p50 ms", "p99", "p99.9", "70 %: requests/s", "p99 ms", "p99.9", "ours ÷ peer"]
# scenario, what, at most (or at least), the peer whose CPU (or p99 at 70 %) ours is divided by.
RATIOS = (
    ("memory", "CPU", "cpu", "hyper", 1.05), ("memory", "CPU", "cpu", "nginx-return", 1.0),
    ("memory", "p99 at 70 % load", "open_p99", "hyper", 1.5), ("memory", "p99 at 70 % load", "open_p99", "nginx-return", 1.5),
    ("redis", "CPU", "cpu", "axum-redis", 0.85), ("redis", "CPU", "cpu", "nginx-lua-redis", 0.45),
    ("mixed", "CPU", "cpu", "axum-view-seed", 1 / 15),
)


def said(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT)
        return (done.stdout + done.stderr).strip()
    except OSError:
        return ""


def version(*command):
    found = re.search(r"\d+\.\d+[\w.+-]*", said(*command))
    return found.group() if found else "?"


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", text)
    memory = re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())
    return (f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} cores, "
            f"{int(memory.group(1)) / 2**20:.0f} GiB, Linux {platform.release()}")


def versions():
    return ", ".join((
        f"rustc {version('rustc', '--version')}", f"wrk {version('wrk', '-v')}",
        f"Redis {version('redis-server', '--version')}", f"Cassandra {CASSANDRA}", f"nginx {version('nginx', '-v')}",
        f"webdis {version('dpkg-query', '-W', 'webdis')}", f"node {version('node', '--version')}"))


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def ratio(number):
    return f"{number:.3f}" if number < 0.1 else f"{number:.2f}"


def hits(figures):
    """Who answered, most first; what the source was asked for stands apart."""
    of_reads = sorted(((part, name) for name, part in figures.hits.items() if name != "loads"), reverse=True)
    words = [f"{name} {part:.1%}" for part, name in of_reads if part >= 0.0005]
    return ", ".join(words) or "—"


def parts(figures):
    """Server and stores."""
    return ", ".join(f"{name} {micro:.2f}" for name, micro in figures.parts.items())


def rows_of(section):
    ours = section.figures.get(OURS)
    for number, (name, one) in enumerate(section.figures.items()):
        peer = ours is not None and one is not ours
        opened = one.open_rate > 0
        yield [
            "" if number else section.title, name, hits(one), f"{one.rate:.0f}", f"{one.busy:.0%}", f"{one.cpu:.2f}",
            parts(one), f"{one.least:.2f}–{one.most:.2f}", ratio(ours.cpu / one.cpu) if peer else "",
            f"{one.p50:.3f}", f"{one.p99:.3f}", f"{one.p999:.3f}", f"{one.open_rate:.0f}" if opened else "",
            f"{one.open_p99:.3f}" if opened else "", f"{one.open_p999:.3f}" if opened else "",
            ratio(ours.open_p99 / one.open_p99) if opened and peer and one.open_p99 else "",
        ]


def had_to_be_shown(sections):
    """Bounds, what was measured, and whether it is within them."""
    found = []

    def add(what, bound, got, good, form=ratio):
        found.append([what, bound, form(got), "yes" if good else "**no**"])

    for section in sections:
        if isinstance(section, Section):
            ours = section.figures.get(OURS)
            for scenario, what, figure, peer, most in RATIOS:
                if scenario == section.name and ours and peer in section.figures:
                    got = getattr(ours, figure) / max(getattr(section.figures[peer], figure), 1e-9)
                    add(f"{section.title}: {what} ÷ {peer}", f"≤ {ratio(most)}", got, got <= most)
            if section.name == "written" and ours:
                got = ours.hits.get("loads", 0.0)
                add(f"{section.title}: loads of the source per read", "≤ 1 %", got, got <= 0.01, "{:.2%}".format)
            if section.name == "batch":
                single, many = section.figures.values()
                if "redis" in section.title:
                    add(f"{section.title}: {BATCH} users ÷ {BATCH} requests", "≤ 0.1", many.cpu / single.cpu,
                        many.cpu <= 0.1 * single.cpu)
        elif section.name == "overload":
            shown = section.shown
            add("overload: goodput ÷ the most", "≥ 0.9", shown["goodput"], shown["goodput"] >= 0.9)
            add("overload: p99 of memory hits ÷ before (medians of windows)", "≤ 3", shown["hits"], shown["hits"] <= 3)
            add("overload: memory hits not answered 200", "0", shown["lost"], shown["lost"] == 0, "{:.0f}".format)
            add("overload: recovery", "≤ 2 s", shown["recovery"], shown["recovery"] <= 2, "{:.1f} s".format)
        elif section.name == "stream":
            shown = section.shown
            add("stream: of the reads that are due, answered beside 20,000 notifications a second", "≥ 0.8", shown["ratio"], shown["ratio"] >= 0.8)
            add("stream: notifications taken a second", "≥ 20000", shown["taken"], shown["taken"] >= RATE * NEARLY, "{:.0f}".format)
        elif section.name == "soak":
            shown = section.shown
            add("soak: growth of RSS", "≤ 3 %", shown["growth"], shown["growth"] <= 0.03, "{:+.1%}".format)
            add("soak: more open files", f"≤ {FILES_MORE}", shown["files"], shown["files"] <= FILES_MORE, "{:+d}".format)
    return found


def not_answered(sections):
    """A line for everybody of whom not all answers were 200."""
    return [f"{section.title}: {one.bad} answers of {name} were not 200" for section in sections if isinstance(section, Section)
            for name, one in section.figures.items() if one.bad]


def write(path, sections, command, left_out, options, began):
    now = datetime.datetime.now(datetime.timezone.utc)
    commit = said("git", "describe", "--always", "--dirty") or "unknown"
    lines = [
        "# The whole service under load", "",
        f"`{command}`, {began:%Y-%m-%d %H:%M} to {now:%H:%M} UTC, commit {commit}.", "",
        f"{machine()}. {versions()}.", "",
        f"Server and stores on one core, generator on the other; {options.rounds} interleaved rounds of {options.seconds:g} s, "
        "medians. CPU is the scheduler's account (the processes' CPU clocks) over all answers of a round; *busy* is how much of "
        "the server's core that took; how to read the rest stands in [benches/load/README.md](../load/README.md).", "",
    ]
    shown = had_to_be_shown(sections)
    if shown:
        lines += ["## What had to be shown", "", *table(["what", "bound", "measured", "within"], shown), ""]
    compared = [section for section in sections if isinstance(section, Section)]
    if compared:
        lines += ["## Compared", "", *table(HEAD, [row for section in compared for row in rows_of(section)]), ""]
        names = {name for section in compared for name in section.figures}
        lines += [f"* {name}: {what}" for name, what in WHAT.items() if name in names]
        lines += [f"* {name} is left out: {why}" for name, why in left_out.items()]
        lines += [f"* {section.title}: {section.note}" for section in compared if section.note]
        lines += [f"* **{line}**" for line in not_answered(sections)]
        lines.append("")
    for section in sections:
        if not isinstance(section, Section):
            lines += [f"## {section.title}", "", section.note + ".", "", *table(section.head, section.rows), ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines).rstrip() + "\n")
    return lines
