"""Write docs/otp-rows.md: which test checks which row of OTP's semantics.

    python docs/make_otp_rows.py [--check]

A test says so itself, in a comment above it: `# rows: 26, 37`. Rows without a counterpart here have a reason below.
With --check nothing is written; the exit code is 1 when a row has neither a test nor a reason.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "otp-rows.md"

#: Section title, prefix, and the rows' titles in order.
SECTIONS: list[tuple[str, str, list[str]]] = [
    (
        "Supervisor",
        "",
        [
            "start order",
            "synchronous start",
            "default flags",
            "default spec",
            "required keys",
            "unknown keys",
            "bad flags",
            "bad specs",
            "duplicate ids in the list",
            "check without starting",
            "child init fails during initial start",
            "init of the supervisor returns `ignore`",
            "supervisor init returns junk / raises",
            "child returns `ignore` (start list or `start_child`)",
            "`ignore` from a temporary child",
            "`ignore` in simple_one_for_one",
            "extra return value",
            "exception in the start function",
            "start args are stored",
            "name taken by an outsider",
            "permanent",
            "transient",
            "temporary",
            "temporary ends under one_for_all / rest_for_one",
            "one_for_one",
            "one_for_all",
            "rest_for_one",
            "temporary bystander",
            "group restart revives stopped children",
            "dynamic children of a restarted supervisor",
            "exit of an unknown linked process",
            "supervisor's parent exits",
            "window arithmetic",
            '"more than"',
            "intensity 0",
            "one counter per supervisor",
            "group restart costs one",
            "non-restarting exits are free",
            "failed restart attempt",
            "escalation",
            "what the parent does",
            "product rule",
            "stamps survive group restarts; not supervisor restarts",
            "one_for_all: another child fails while restarting",
            "rest_for_one: another child fails while restarting",
            "state while retrying",
            "API while retrying",
            "stop while retrying",
            "`ignore` on restart",
            "no back-off",
            "stop order",
            "shutdown = integer ms",
            "shutdown = 0",
            "shutdown = brutal_kill",
            "shutdown = infinity",
            "child not cooperating at the link level",
            "child ends by itself during shutdown",
            "simple_one_for_one stop",
            "`stop(sup[, reason, timeout])`",
            "killing a supervisor",
            "children stay linked until dead",
            "`start_child` new id",
            "`start_child` id running",
            "`start_child` id present, not running (undefined or restarting)",
            "`start_child` start fails",
            "`terminate_child` running",
            "`terminate_child` already stopped",
            "`terminate_child` unknown id / a pid on a static supervisor",
            "`restart_child`",
            "`restart_child` scope",
            "`delete_child`",
            "`which_children`",
            "`which_child(id)`",
            "`count_children`",
            "`get_childspec`",
            "calls on a dead supervisor",
            "call timeout",
            "cost",
            "exactly one spec",
            "`start_child(args)`",
            "ids",
            "refused calls",
            "`terminate_child(pid)`",
            "counts",
            "cancel a retry",
            "legal combinations",
            "any_significant",
            "transient significant crash",
            "all_significant",
            "not triggered by",
            "escalation",
            "with simple_one_for_one",
        ],
    ),
    (
        "GenServer",
        "G",
        [
            "start waits for init",
            "init outcomes",
            "init timeout",
            "a failed start has released everything when it returns",
            "name taken",
            "bad name option",
            "call",
            "call timeout",
            "late reply",
            "call to nobody",
            "server dies during the call",
            "calling self",
            "deferred reply",
            "stop with reply",
            "cast",
            "info",
            "missing handler",
            "idle timeout",
            "timeout 0",
            "continue",
            "terminate is called",
            "exit logging",
            "stop",
            "many requests at once",
            "inspection",
        ],
    ),
    (
        "Registry",
        "R",
        [
            "unique: register returns owner; second register of the key -> `{already_registered, pid}`, also ...",
            "duplicate: many processes (and the same one twice) under a key",
            "entry lives as long as its process; removal after a crash is *eventual*, but a stale entry must ...",
            "only the owner unregisters; unregistering nothing is ok",
            "lookup -> list of (pid, value); `[]` if none",
            "value per entry, changed only by its owner (unique only); others get error",
            "keys(pid), values(key, pid), count",
            "keys are compared strictly (1 is not 1.0) - in Python `1 == 1.0 == True` hash alike, so decide",
            "via name: start under it, call/cast/whereis through it; taken -> already_started; value may ride ...",
            "via on a duplicate registry is refused",
            "dispatch(key, fun): runs in the caller; not called at all when no entries; serial or parallel ...",
            "listeners get (register, ...) and (unregister, ...), not on crash",
            "match / select / count_match / unregister_match by pattern",
            "links: the registry links to registrants until their last key goes",
            "lock(key, fun): mutual exclusion per key; released if the holder raises or dies; a dying waiter ...",
            "unknown registry -> error naming it; failed registrations leave no garbage",
        ],
    ),
    (
        "DynamicSupervisor",
        "D",
        [
            "only one_for_one; each `start_child` gives a full spec; id is ignored, children go by pid",
            "max_children: excess -> `max_children`; restarting children still occupy a slot",
            "extra_arguments put before the child's own args, at start and restart",
            "spec checked in the caller, before the process is contacted (works on a non-existent supervisor)",
            "start outcomes: pid, pid+info, ignore (returned as ignore, not stored), error, unknown -> error",
            "restart outcomes: new pid; pid+info; ignore -> dropped; error/junk -> `restarting`, retried, counted",
            "defaults 3 restarts / 5 s (flags default 1/5 if raw); exceeding -> exit `shutdown`",
            "temporary / transient / permanent as in table 1",
            "terminate: all children at once, each with its own limit; mixed shutdown values allowed",
            "child answering shutdown with `{shutdown, x}` is fine; permanent + normal is reported",
            "terminate_child(pid) ok; again -> not_found; works on a restarting child",
            "count: specs = number of children; restarting counts in workers, not in active",
            "significant or auto_shutdown refused",
            "which_children rows have id undefined, order unspecified",
            "unexpected message logged, ignored",
        ],
    ),
    (
        "Tasks",
        "T",
        [
            "async: child of the supervisor, linked to the caller, monitored; result as (ref, value) then ...",
            "async_nolink: same without the link; crash arrives only as DOWN; needs temporary restart",
            "start_child: fire and forget; temporary by default; permanent restarts the same function",
            "await: default 5000; only the owner may; once only; on timeout caller exits and a late reply ...",
            "task raise / throw / exit -> the awaiting caller fails with that reason + the await call",
            "yield -> ok / exit / nothing yet (task goes on); shutdown(task) may still return the result; ignore",
            "max_children reached -> raise in async and in the stream, with clean shutdown of the stream",
            "shutdown default 5000 or brutal_kill per task",
            "stream options: max_concurrency = CPU count, ordered true, timeout 5000 per task, on_timeout ...",
            "ordered results even when the slowest is first; emits ok/exit pairs",
            "lazy: the input is pulled only as slots free; at most max_concurrency running",
            "timeout with kill_task -> `exit timeout` for that item, others go on; with exit -> the consumer ...",
            "crash of a linked task kills the consumer unless it traps; nolink gives an exit item",
            "early stop (take 1) shuts down the running rest, leaks no task, link or message",
            "exception in the *input* or consumer: all tasks shut down, then re-raised",
            "caller chain recorded (`$callers`), through nested tasks",
            "stream may be consumed from another process",
            "children() lists running pids, not restarting ones",
        ],
    ),
    (
        "PartitionSupervisor",
        "PS",
        [
            "n copies of one spec, ids 0..n-1; default n = CPU count; order and shutdown as a plain supervisor",
            "routing: integer key -> `abs(key) mod n`; else hash(key) mod n; via (name, key)",
            "with_arguments(args, partition) changes each copy's args",
            "name and child_spec required; partitions > 0; auto_shutdown must be never",
            "resize!(n): 0..initial; stops or starts copies; specs count stays at the initial n; routing follows",
            "0 partitions: lookup raises; more than initial: raises",
            "unknown supervisor -> noproc",
            "(caution for Python: use a *stable* hash; `hash(str)` is salted per process)",
        ],
    ),
    (
        "Pool",
        "B",
        [
            "defaults size 5, max_overflow 10, strategy lifo, checkout timeout 5000 ms, blocking",
            "`size` workers started before start returns (sequentially); size 0 is legal",
            "checkout order: idle worker -> else overflow worker if overflow < max -> else `full` ...",
            "lifo (default): last returned is next; fifo: longest idle is next",
            "waiters are served strictly first come first served, before any dismissal of overflow",
            "blocking checkout times out -> caller exits `timeout`; its queue place is cancelled",
            "race: worker handed out just as the caller timed out -> the cancel returns it to the pool (no leak)",
            "borrower is monitored from request on; borrower dies holding -> worker returned (not killed; ...",
            "borrower dies waiting -> removed from the queue",
            "checkin while overflow > 0 and nobody waits -> *that* worker is stopped, overflow - 1 (overflow ...",
            "checkin is asynchronous; double or foreign checkin is ignored",
            "worker dies idle -> replaced",
            "worker dies while out, waiter present -> fresh worker goes to the waiter",
            "worker dies while out, nobody waits, overflow > 0 -> not replaced, overflow - 1",
            "worker dies while out, nobody waits, overflow 0 -> replaced, goes idle",
            "the borrower is not told that its worker died",
            "transaction(fun): checkout, run, checkin always, exception re-raised; the timeout covers the ...",
            "status = (state, idle, overflow, checked out); state ready / overflow / full, e.g. 2/0 empty -> ...",
            "workers live under an inner simple_one_for_one, temporary, intensity 0/1, shutdown 5000; the ...",
            "a worker that cannot start crashes the whole pool (known wart; do better: fail that checkout only)",
            "monitors are not leaked when a waiter becomes a holder or a worker dies",
            "stop: reply ok, workers shut down through the inner supervisor",
        ],
    ),
    (
        "Monitors, links, Application, process groups",
        "X",
        [
            "monitor of a dead or unknown process delivers DOWN (`noproc`) immediately; each monitor is ...",
            "link is symmetric and idempotent; exit `normal` does not kill the peer, any other reason does ...",
            "`kill` cannot be trapped and is seen by others as `killed`",
            "Application: dependencies must already be started, `ensure_all_started` starts them in order; ...",
            "stop order: prep_stop -> supervision tree (reverse) -> stop callback",
            "types: temporary (default) only reports; transient/permanent bring the node down. Note: a tree's ...",
            "pg: join/leave, the same pid can join n times and must leave n times; leave when absent -> ...",
        ],
    ),
]

#: Rows that have no test, and why.
REASONS = {
    "12": "a SupervisorSpec is data: there is no init of a supervisor that could decline",
    "13": "a SupervisorSpec is data: there is no init of a supervisor that could fail",
}

_COMMENT = re.compile(r"^\s*# rows?: (.+)$")
_TEST = re.compile(r"^\s*(?:async )?(?:def (test_\w+)|class (Test\w+)|(Test\w+) = )")


def numbers() -> list[str]:
    """Return the numbers of all rows, in order."""
    return [f"{prefix}{place}" for _, prefix, titles in SECTIONS for place in range(1, len(titles) + 1)]


def expand(text: str) -> list[str]:
    """Return the row numbers of a comment: "26, 37", "G1-G3", "62 to 64"."""
    found = []
    for part in re.split(r"[,;]\s*", text.strip().rstrip(".")):
        match = re.fullmatch(r"([A-Z]*)(\d+)(?:\s*(?:-|to)\s*([A-Z]*)(\d+))?", part.strip())
        if match is None and not re.search(r"\d", part):
            continue  # words: what else the test is about
        if match is None:
            raise ValueError(f"rows {text!r}: {part!r} is no row number; write them as `# rows: 26, G3`")
        prefix, first, _, last = match.groups()
        found += [f"{prefix}{number}" for number in range(int(first), int(last or first) + 1)]
    return found


def tests_by_row(folder: Path) -> dict[str, list[str]]:
    """Return row → "file::test" of all test files below a folder.

    Raises:
        ValueError: a comment names what is no row, or has no test below it.
    """
    known = set(numbers())
    found: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("test_*.py")):
        waiting: list[str] = []
        for line in file.read_text().splitlines():
            if comment := _COMMENT.match(line):
                waiting += expand(comment[1])
            elif (test := _TEST.match(line)) and waiting:
                name = next(each for each in test.groups() if each)
                for row in dict.fromkeys(waiting):
                    if row not in known:
                        raise ValueError(f"{file.name}::{name} names row {row}, which does not exist")
                    found.setdefault(row, []).append(f"{file.relative_to(ROOT)}::{name}")
                waiting = []
        if waiting:
            raise ValueError(f"{file.name}: no test follows `# rows: {', '.join(waiting)}`")
    return found


def missing(found: dict[str, list[str]]) -> list[str]:
    """Return the rows that have neither a test nor a reason."""
    return [row for row in numbers() if row not in found and row not in REASONS]


def page(found: dict[str, list[str]]) -> str:
    """Return the page."""
    lines = [
        "# OTP's semantics, row by row, and the tests that check them",
        "",
        "The rows follow supervisor_SUITE, gen_server_SUITE, Elixir's tests and poolboy's. Left out on purpose:",
        "hibernation, hot code upgrade, old tuple specs, `get_callback_module` and logger formatting. Made by",
        "`docs/make_otp_rows.py` from the `# rows:` comments above the tests.",
    ]
    for title, prefix, titles in SECTIONS:
        lines += ["", f"## {title}", "", "| row | behaviour | tests |", "|---|---|---|"]
        for place, what in enumerate(titles, 1):
            row = f"{prefix}{place}"
            tests = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in found.get(row, []))
            lines.append(f"| {row} | {what} | {tests or 'none: ' + REASONS.get(row, 'MISSING')} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page, or only check."""
    found = tests_by_row(ROOT / "tests")
    gaps = missing(found)
    if "--check" not in sys.argv:
        PAGE.write_text(page(found))
    if gaps:
        print(f"rows without a test or a reason: {', '.join(gaps)}", file=sys.stderr)
    return 1 if gaps else 0


if __name__ == "__main__":
    raise SystemExit(main())
