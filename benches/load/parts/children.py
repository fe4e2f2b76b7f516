"""Processes of one run: started on a core, looked at, ended.

No child outlives the run: each is ended by its own pid at the end, and by the kernel if the run itself is killed.
"""

import contextlib
import http.client
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

SERVER_CORE = 0
LOAD_CORE = 1
START_MAX = 120


class Failed(Exception):
    """The run cannot go on, or what it measured is wrong."""


class Child:
    """A process of its own group on one core, with its output in a file."""

    def __init__(self, name, command, log, core, folder, env):
        self.name, self.log = name, log
        # Both only exec what follows them, so that the pid stays. Where they are missing (macOS), it runs on any core.
        before = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        before += ["taskset", "-c", str(core)] if core is not None and shutil.which("taskset") else []
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                [*before, *map(str, command)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder,
                env={**os.environ, **(env or {})}, start_new_session=True)
        self.pid = self.process.pid

    def alive(self):
        return self.process.poll() is None

    def cpu(self):
        """Nanoseconds on a core, of all threads, ended ones too: the process' CPU clock (clock_getcpuclockid)."""
        return time.clock_gettime_ns((~self.pid << 3) | 2)

    def rss(self):
        """Resident bytes."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmRSS"))

    def files(self):
        """Open file descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return [int(task) for task in os.listdir(f"/proc/{self.pid}/task")]

    def tail(self):
        return pathlib.Path(self.log).read_text(errors="replace")[-3000:]

    def stop(self):
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


class Scratch:
    """The run's folder and all its children; a context that ends them."""

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="balance-cache-load-"))
        self.children, self.ports, self.count = [], set(), 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupted)
        return self

    @staticmethod
    def _interrupted(number, _):
        raise SystemExit(128 + number)

    def __exit__(self, *_):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self.stop(*reversed(self.children))
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name, command, core=SERVER_CORE, env=None):
        self.count += 1
        folder = self.folder / f"{self.count}-{name}"
        folder.mkdir()
        child = Child(name, command, folder / "out.log", core, folder, env)
        self.children.append(child)
        return child

    def place(self):
        """A new empty folder."""
        return pathlib.Path(tempfile.mkdtemp(dir=self.folder))

    def stop(self, *children):
        for child in list(children):
            child.stop()
            if child in self.children:
                self.children.remove(child)

    def port(self):
        """One that the kernel gave, and that no other child of this run has."""
        while True:
            with socket.socket() as found:
                found.bind(("127.0.0.1", 0))
                port = found.getsockname()[1]
            if port not in self.ports:
                self.ports.add(port)
                return port


def wait_for(what, child, question, seconds=START_MAX):
    """Asks until there is an answer that counts, while the child lives; bounded."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if (answer := question()) not in (None, False):
                return answer
        if not child.alive():
            raise Failed(f"{child.name} ended before {what}:\n{child.tail()}")
        time.sleep(0.02)
    raise Failed(f"{child.name}: {what} did not come in {seconds} s:\n{child.tail()}")


def listens(port):
    """A question for wait_for: does anybody accept there?"""
    def question():
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    return question


class Client:
    """One kept connection; asked again once if it was closed meanwhile."""

    def __init__(self, port):
        self.port, self.connection = port, None

    def ask(self, method, path, body=None, timeout=60):
        for attempt in (1, 2):
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
            try:
                headers = {"Content-Type": "application/json"} if body else {}
                self.connection.request(method, path, body, headers)
                answer = self.connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException):
                self.close()
                if attempt == 2:
                    raise

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None


def answer_length(port, path):
    """Bytes of a whole answer, head and body."""
    with socket.create_connection(("127.0.0.1", port), 10) as asked:
        asked.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        got = b""
        while b"\r\n\r\n" not in got:
            got += asked.recv(65536)
        head, _, _ = got.partition(b"\r\n\r\n")
        names = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
        return len(head) + 4 + int(names[b"content-length"])
