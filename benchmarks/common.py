"""What the benchmarks share: the server, work in processes of its own, CPU and memory of process trees.

Work that is measured runs in child processes (`Work`), so that measuring costs what is measured nothing,
and so that ours and what it is compared with are measured alike: everything that descends from the child
counts, for ours that is the program and all processes of its node. Whatever way a benchmark ends, its
children's standard input ends with it, and so do they.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)

#: The program that all benchmarks run, and what it is asked.
SIGNATURE = "ticket -> team"
TICKET = "ticket number {}: the app crashes when I press the button, please help me soon"
#: Roles in a node that get a row of their own; a process is known by how its name begins.
ROLES = {"run:": "evaluator", "worker-": "workers", "runs": "runs (journal)"}


def parser(doc: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """Return a command line with --quick and an integer or text option per default."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--quick", action="store_true", help="small numbers, for a look")
    for name, value in defaults.items():
        made.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    return made


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; Ctrl-C ends it with what it started."""
    try:
        main()
    except KeyboardInterrupt:
        console.print("interrupted")
        raise SystemExit(130) from None


# --- the server ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A running `benchmarks.server`."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Base URL, as an OpenAI SDK takes it."""
        return f"http://127.0.0.1:{self.port}/v1"

    def stats(self, *, reset: bool = False) -> dict[str, int]:
        """Return requests, in_flight and max_in_flight; start counting anew if asked to."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/reset" if reset else "/stats")
            found: dict[str, int] = json.loads(connection.getresponse().read())
            return found
        finally:
            connection.close()


@contextlib.contextmanager
def server(latency_ms: float, right_every: int = 0) -> Iterator[Server]:
    """Run the server in a process of its own inside the `with`."""
    command = [sys.executable, "-m", "benchmarks.server", "--until-eof", "--latency-ms", str(latency_ms)]
    process = subprocess.Popen(
        [*command, "--right-every", str(right_every)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().split()
        if len(port) != 2:
            raise RuntimeError("the server did not start")
        yield Server(int(port[1]), process.pid)
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Close a child's standard input, which it ends with; kill it if it does not."""
    with contextlib.suppress(OSError):
        assert process.stdin is not None
        process.stdin.close()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


@contextlib.contextmanager
def home() -> Iterator[str]:
    """Make a data folder that is DSPEX_HOME, for children too, inside the `with`."""
    before = os.environ.get("DSPEX_HOME")
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        os.environ["DSPEX_HOME"] = folder
        try:
            yield folder
        finally:
            os.environ.pop("DSPEX_HOME")
            if before is not None:
                os.environ["DSPEX_HOME"] = before


# --- processes ----------------------------------------------------------------------------------------------


def role(process: psutil.Process, roots: set[int]) -> str:
    """Return what a process does: `client`, or its name in the node without numbers."""
    if process.pid in roots:
        return "client"
    name = process.name()
    return next((label for start, label in ROLES.items() if name.startswith(start)), name)


@dataclass
class Seen:
    """One process as sampled: CPU seconds, bytes."""

    role: str = ""
    first: float = 0.0
    last: float = 0.0
    rss: int = 0
    uss: int = 0


@dataclass
class Usage:
    """What process trees used between two moments.

    Args:
        processes: what was seen of each process, those included that ended in between.
        peak_pss: greatest sum of the proportional sizes of all processes, in bytes (memory=True only).
        peak_count: most processes at once.
    """

    processes: dict[tuple[int, float], Seen] = field(default_factory=dict)
    peak_pss: int = 0
    peak_count: int = 0

    @property
    def cpu(self) -> float:
        """CPU seconds of all processes."""
        return sum(seen.last - seen.first for seen in self.processes.values())

    def cpu_by_role(self) -> dict[str, float]:
        """CPU seconds by role, most first."""
        found: dict[str, float] = {}
        for seen in self.processes.values():
            found[seen.role] = found.get(seen.role, 0.0) + seen.last - seen.first
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def peak_by_role(self, what: str) -> dict[str, int]:
        """Greatest `rss` or `uss` of a single process of each role, in bytes."""
        found: dict[str, int] = {}
        for seen in self.processes.values():
            found[seen.role] = max(found.get(seen.role, 0), getattr(seen, what))
        return found


class Sampler:
    """Watches processes and all that descend from them.

    CPU is read often, because processes end in the middle (a run's evaluator does): of such a one the last
    reading counts, at most one period before its end.
    """

    PERIOD = 0.03
    #: Every so many periods the tree is listed anew, and memory is read.
    TREE, MEMORY = 3, 10

    def __init__(self, roots: list[int], *, memory: bool = False) -> None:
        """Watch these process ids and their descendants."""
        self._roots = set(roots)
        self._memory = memory
        self._known: dict[tuple[int, float], psutil.Process] = {}
        self._usage = Usage()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Usage:
        """Take the first readings; return what will be filled."""
        self._list(first=True)
        self._read(memory=self._memory)
        self._thread.start()
        return self._usage

    def __exit__(self, *error: object) -> None:
        """Take the last readings."""
        self._stop.set()
        self._thread.join()
        self._list()
        self._read(memory=self._memory)

    def _run(self) -> None:
        count = 0
        while not self._stop.wait(self.PERIOD):
            count += 1
            if count % self.TREE == 0:
                self._list()
            self._read(memory=self._memory and count % self.MEMORY == 0)

    def _list(self, *, first: bool = False) -> None:
        for pid in self._roots:
            with contextlib.suppress(psutil.Error):
                root = psutil.Process(pid)
                for process in [root, *root.children(recursive=True)]:
                    key = (process.pid, process.create_time())
                    if key not in self._known:
                        self._known[key] = process
                        seen = self._usage.processes[key] = Seen()
                        if first:
                            seen.first = seen.last = _cpu(process)

    def _read(self, *, memory: bool) -> None:
        total = 0
        for key, process in list(self._known.items()):
            seen = self._usage.processes[key]
            try:
                with process.oneshot():
                    # A process that has ended and waits to be collected is still read: its last word.
                    seen.last = max(seen.last, _cpu(process))
                    seen.role = role(process, self._roots)
                    if memory:
                        info = process.memory_full_info()
                        total += getattr(info, "pss", info.uss)
                        seen.rss, seen.uss = max(seen.rss, info.rss), max(seen.uss, info.uss)
                    elif self._memory:
                        seen.rss = max(seen.rss, process.memory_info().rss)
            except psutil.NoSuchProcess:
                del self._known[key]
            except psutil.Error:
                pass
        self._usage.peak_count = max(self._usage.peak_count, len(self._known))
        self._usage.peak_pss = max(self._usage.peak_pss, total)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


class Work:
    """A child process that makes itself ready, waits for the word, does its work and says what came of it.

    Args:
        kind: name of a function in `benchmarks.work`.
        **arguments: for it, plain data.
    """

    def __init__(self, kind: str, **arguments: Any) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.work", kind, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Work:
        """Wait until it is ready."""
        try:
            self.hear()
        except BaseException:
            end(self._process)
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """End it."""
        end(self._process)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        """Wait for its next word."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a child process of the benchmark ended early; what it said is above")
        return json.loads(line)


@dataclass(frozen=True)
class Done:
    """What came of work: the children's words, seconds of wall clock, and what their processes used."""

    words: list[Any]
    seconds: float
    usage: Usage


def measure(works: list[tuple[str, dict[str, Any]]], *, memory: bool = False) -> Done:
    """Make children ready, let them work at the same time, and measure from the word to the last answer."""
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Work(kind, **arguments)) for kind, arguments in works]
        time.sleep(0.3)  # what getting ready left to do
        with Sampler([child.pid for child in children], memory=memory) as usage:
            started = time.perf_counter()
            for child in children:
                child.tell()
            words = [child.hear() for child in children]
            seconds = time.perf_counter() - started
    return Done(words, seconds, usage)


# --- figures and tables -------------------------------------------------------------------------------------


def percentile(values: list[float], point: float) -> float:
    """Return the value that `point` (0 to 1) of the values do not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(point * len(ordered)))]


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def mb(size: float) -> str:
    """Return bytes as megabytes."""
    return f"{size / 1e6:.1f}"


def table(title: str, columns: list[str], rows: list[list[str]], caption: str | None = None) -> None:
    """Print a table; the first column is words, the others are figures."""
    made = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for place, column in enumerate(columns):
        made.add_column(column, justify="left" if place == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*row)
    console.print(made)


def default_sigint() -> None:
    """Have Ctrl-C raise KeyboardInterrupt, also where the parent ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
