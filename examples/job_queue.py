"""A job queue that survives: jobs on disk, workers killed, nothing lost, nothing done twice without saying so.

    python examples/job_queue.py                # a demonstration in a folder of its own
    python examples/job_queue.py --jobs FILE    # with a queue file that stays; run it again: it goes on

    jobs (rest_for_one)
    ├─ queue                      the only one that touches the file (SQLite)
    └─ workers (one_for_one)      ask the queue for a job, do it, say so
        ├─ worker-1
        └─ worker-2

A worker that is killed in the middle of a job may have done it or not: nobody can know. The queue gives it to another
one, and writes down that it did: `times` says how often a job was begun. One that has killed three workers is set
aside. When the queue itself is killed, rest_for_one starts the workers anew too, and what they were doing counts as
begun once more. Each job writes a line to `done.txt` when it has been carried out; the demonstration compares.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path

from supervisors import NO_REPLY, Caller, ChildInfo, ChildSpec, Down, GenServer, Node, Ref, SupervisorSpec, errors

#: A job that was begun so often without coming to an end is not given out again.
MOST_TIMES = 3


class Queue(GenServer):
    """Keeps the jobs: waiting, running, done or set aside."""

    def init(self, path: str) -> None:
        """Open the file; what was running when the last queue ended is waiting again."""
        self.file = sqlite3.connect(path, isolation_level=None)
        self.file.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            "CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, what TEXT NOT NULL,"
            " state TEXT NOT NULL DEFAULT 'waiting', times INTEGER NOT NULL DEFAULT 0, result TEXT)"
        )
        self.idle: deque[Caller] = deque()
        self.running: dict[Ref, int] = {}
        for (job,) in self.file.execute("SELECT id FROM jobs WHERE state = 'running'").fetchall():
            self.back(job)

    def handle_call(self, request: object, caller: Caller) -> object:
        """Take jobs in, give them out, tell how they stand."""
        match request:
            case ("add", list(jobs)):
                self.file.executemany("INSERT INTO jobs (what) VALUES (?)", [(job,) for job in jobs])
                self.give_out()
                return len(jobs)
            case "take":
                self.idle.append(caller)  # it waits until there is one
                self.monitor(caller.ref)
                self.give_out()
                return NO_REPLY
            case ("done", int(job), str(result)):
                self.running.pop(caller.ref, None)
                self.file.execute("UPDATE jobs SET state = 'done', result = ? WHERE id = ?", (result, job))
                return None
            case "counts":
                return dict(self.file.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())
            case "all":
                return self.file.execute("SELECT id, what, state, times, result FROM jobs ORDER BY id").fetchall()
        return None

    def handle_info(self, message: object) -> None:
        """Take back what a worker was doing that has ended."""
        if isinstance(message, Down):
            self.idle = deque(caller for caller in self.idle if caller.ref != message.ref)
            if message.ref in self.running:
                self.back(self.running.pop(message.ref))
                self.give_out()

    def back(self, job: int) -> None:
        """Put a job that was begun and not ended back, or aside."""
        times = self.file.execute("SELECT times FROM jobs WHERE id = ?", (job,)).fetchone()[0]
        state = "waiting" if times < MOST_TIMES else "set aside"
        self.file.execute("UPDATE jobs SET state = ? WHERE id = ?", (state, job))

    def give_out(self) -> None:
        """Hand waiting jobs to idle workers; it is on disk before the worker hears of it."""
        while self.idle:
            row = self.file.execute("SELECT id, what FROM jobs WHERE state = 'waiting' ORDER BY id LIMIT 1").fetchone()
            if row is None:
                return
            worker = self.idle.popleft()
            self.file.execute("UPDATE jobs SET state = 'running', times = times + 1 WHERE id = ?", (row[0],))
            self.running[worker.ref] = row[0]
            self.reply(worker, row)


class Worker(GenServer):
    """Does one job after the other."""

    def init(self, folder: str) -> None:
        """Begin."""
        self.folder = Path(folder)
        self.spawn(self.work())

    async def work(self) -> None:
        """Ask for a job, do it, say so, for ever; when the queue ends, so does this worker."""
        while True:
            job, what = await self.call("queue", "take", timeout=None)
            result = await self.carry_out(job, what)
            await self.call("queue", ("done", job, result))

    async def carry_out(self, job: int, what: str) -> str:
        """Do what the job says; `done.txt` gets one line for each time that it was carried out."""
        if what == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0.01)
        result = what.upper()
        with (self.folder / "done.txt").open("a") as file:
            file.write(f"{job} {result}\n")
        return result


def jobs(file: Path, workers: int = 3) -> SupervisorSpec:
    """Return the tree over a queue file."""
    pool = [ChildSpec(f"worker-{number}", Worker, args=(str(file.parent),)) for number in range(1, workers + 1)]
    return SupervisorSpec(
        [
            ChildSpec("queue", Queue, args=(str(file),), name="queue"),
            ChildSpec("workers", SupervisorSpec(pool, intensity=1000, name="workers")),
        ],
        strategy="rest_for_one",
        intensity=1000,
        name="jobs",
    )


def demonstrate(file: Path, count: int = 150, kills: int = 12) -> int:
    """Add jobs, one of them deadly, kill workers and the queue while they are done, and compare."""
    fresh = not file.exists()
    with Node.start(level="critical") as node:
        node.start_supervisor(jobs(file))
        if fresh:
            node.call("queue", ("add", [f"job number {number}" for number in range(count - 1)] + ["deadly"]))
        killed: Counter[str] = Counter()
        while not finished(node):
            rows = living(node)
            if rows and sum(killed.values()) < kills:
                what = "queue" if sum(killed.values()) % 4 == 3 else "worker"
                victim = node.pid("queue") if what == "queue" else random.choice(rows).pid
                with suppress(ProcessLookupError):
                    if victim is not None:
                        os.kill(victim, signal.SIGKILL)
                        killed[what] += 1
            time.sleep(0.05)
        return compare(node.call("queue", "all"), file.parent / "done.txt", killed)


def living(node: Node) -> list[ChildInfo]:
    """Return the workers that live now; none while they are all being restarted."""
    try:
        return [row for row in node.which_children("workers") if row.pid is not None]
    except errors.SupervisorsError:
        return []


def finished(node: Node) -> bool:
    """Whether no job waits or runs; a queue that is being restarted has not said so."""
    try:
        counts = node.call("queue", "counts")
    except errors.SupervisorsError:
        return False
    return not counts.get("waiting") and not counts.get("running")


def compare(rows: list[tuple[int, str, str, int, str]], done: Path, killed: Counter[str]) -> int:
    """Compare what the queue says with what was carried out; return the exit status."""
    carried_out = Counter(int(line.split()[0]) for line in done.read_text().splitlines())
    states = Counter(state for _, _, state, _, _ in rows)
    repeated = {job for job, _, _, times, _ in rows if times > 1}
    silent = [job for job, often in carried_out.items() if often > 1 and job not in repeated]
    lost = [job for job, _, state, _, _ in rows if state == "done" and not carried_out[job]]
    print(f"\n{len(rows)} jobs: " + ", ".join(f"{number} {state}" for state, number in states.items()))
    print(f"killed meanwhile: {killed['worker']} workers, {killed['queue']} times the queue")
    print(f"begun more than once, and written down: {len(repeated)}")
    print(f"carried out more than once: {sum(often > 1 for often in carried_out.values())}, {len(silent)} unsaid")
    print(f"lost: {len(lost)}")
    for job, what, state, times, _ in sorted(rows, key=lambda row: -row[3])[:5]:
        print(f"  job {job:>3} ({what}) was begun {times} times: {state}")
    return 1 if lost or silent or states["done"] + states["set aside"] != len(rows) else 0


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="A job queue that survives.")
    options.add_argument("--jobs", type=Path, help="the queue's file; done.txt is written beside it")
    chosen = options.parse_args()
    if chosen.jobs is not None:
        sys.exit(demonstrate(chosen.jobs.absolute()))
    with tempfile.TemporaryDirectory(prefix="jobs-") as folder:
        sys.exit(demonstrate(Path(folder) / "jobs.sqlite"))
