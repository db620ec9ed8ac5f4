"""What an optimisation writes down: its candidates and its result, as steps of its run; and how it stands, in figures.

A candidate's program is there twice: as its state, plain data for people, and pickled, to be used where it came from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack  # type: ignore[import-untyped,unused-ignore]

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.codec import CodecError, pack, unpack
from dspex_actors.journal.records import Part, RunRow, StepRow
from dspex_actors.journal.summary import duration_of
from dspex_actors.runs.spec import dump_code, load_code

#: Kinds of steps.
CANDIDATE, RESULT = "candidate", "result"
#: So many bytes of a candidate's step have its figures, whatever its optimiser calls it.
FIGURES = 5000
#: Names of candidates are not longer.
NAME_LENGTH = 1000
#: What a candidate's step tells; another release may tell more.
_TOLD = frozenset({"name", "score", "whole", "same", "program", "state"})
#: Why the run of a step ended early.
CANNOT_WIN, NOT_NEEDED = "the candidate can win no more", "the optimisation needs it no more"


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate of an optimisation.

    Args:
        number: from 1, in the order in which they were told.
        key: of its step.
        name: what its optimiser calls it.
        score: 0 to 100; None: it was stopped, or has none.
        whole: its score is that of all examples.
        state: of its program, as `Module.dump_state`; None: that could not be told.
        program: pickled; None: `same` has it.
        same: the key of the candidate with the same program that was told first.
        at: when, wall-clock seconds since 1970.
    """

    number: int
    key: str
    name: str
    score: float | None
    whole: bool
    state: dict[str, Any] | None
    program: bytes | None
    same: str
    at: float


def pack_found(name: str, score: float | None, whole: bool, program: Any, same: str) -> bytes:
    """Return a candidate as the bytes of its step; `program` is None where the step `same` has it."""
    code = state = None
    if program is not None:
        code = dump_code(program)
        try:
            state = pack(program.dump_state())
        except Exception:
            state = None  # what is not plain is not told; the program is there all the same
    # What is large comes last: who only wants figures reads so far (`figures_in`).
    return pack(
        {"name": name[:NAME_LENGTH], "score": score, "whole": whole, "same": same, "program": code, "state": state}
    )


def found_in(steps: Iterable[StepRow]) -> tuple[list[Found], Found | None]:
    """Return the candidates among an optimisation's steps, in their order, and its result."""
    states: dict[str, Any] = {}

    def read(row: StepRow) -> dict[str, Any] | None:
        try:
            data = unpack(row.data)
            state = states.get(data["same"]) if data["state"] is None else unpack(data["state"])
            told = {name: data[name] for name in _TOLD}
        except (CodecError, KeyError, TypeError):
            return None
        states[row.step] = state
        return told | {"state": state}

    return _candidates(steps, read)


def figures_in(steps: Iterable[StepRow]) -> tuple[list[Found], Found | None]:
    """Return the candidates as `found_in`, without their programs.

    Args:
        steps: with the first `FIGURES` bytes of what each gave, at least.
    """

    def read(row: StepRow) -> dict[str, Any] | None:
        told = {"same": row.step, **_beginning(row.data), "program": None, "state": None}
        return {name: told[name] for name in _TOLD} if told.keys() >= _TOLD else None

    return _candidates(steps, read)


def _candidates(
    steps: Iterable[StepRow], read: Callable[[StepRow], dict[str, Any] | None]
) -> tuple[list[Found], Found | None]:
    """Return the candidates and the result; `read` gives the fields of one that a step tells, None: it tells none."""
    found: list[Found] = []
    result = None
    for row in steps:
        told = read(row)
        if told is None:
            continue
        one = Found(number=len(found) + 1, key=row.step, at=row.at, **told)
        if row.state == RESULT:
            result = one
        else:
            found.append(one)
    return found, result


def _beginning(data: bytes) -> dict[str, Any]:
    """Return what stands before the program in a candidate's step, also where that is cut short."""
    unpacker = msgpack.Unpacker(max_buffer_size=0, unicode_errors="surrogatepass")
    unpacker.feed(data)
    told: dict[str, Any] = {}
    try:
        for _ in range(unpacker.read_map_header()):
            name = unpacker.unpack()
            if name in ("program", "state") and told.keys() >= {"same"}:
                break
            told[name] = unpacker.unpack()
    except (ValueError, TypeError, msgpack.UnpackException):
        pass  # it is cut short, or was never a candidate's
    return told


def best_of(found: Sequence[Found], result: Found | None = None) -> Found | None:
    """Return the best candidate: of those that were scored on all, the best and first; without any, of the others.

    First is who was yielded first, not who was ready first.

    Args:
        found: the candidates.
        result: of the optimisation, once it is finished: of equal ones the best is the one that it is.
    """
    for few in ([one for one in found if one.whole], found):
        scored = [one for one in few if one.score is not None]
        if scored:
            most = max(one.score for one in scored if one.score is not None)
            best = [one for one in scored if one.score == most]
            taken = [one for one in best if result is not None and result.same in (one.key, one.same)]
            return min(taken or best, key=lambda one: _place_of(one.key))
    return found[-1] if found else None


def _place_of(key: str) -> tuple[int, ...]:
    """Return where a candidate's generator stands among the others, and which of its candidates it is."""
    return tuple(int(number) for number in re.findall(r"\d+", key))


def program_of(one: Found, found: Sequence[Found]) -> Any:
    """Return a candidate's program; only where user code may run.

    Raises:
        ConfigError: the journal has it not.
    """
    by_key = {other.key: other for other in found}
    seen = {one.key}
    # A candidate that was told before a kill may point at one that points on.
    while one.program is None:
        other = by_key.get(one.same)
        if other is None or other.key in seen:
            raise ConfigError(f"the program of candidate {one.name!r:.80} is not in the journal any more")
        seen.add(other.key)
        one = other
    return load_code(one.program)


@dataclass(frozen=True, slots=True)
class OptimizationStatus:
    """How an optimisation stands.

    Args:
        run_id: its id.
        optimizer: what optimises.
        program: what is optimised.
        state: running, paused, finished, failed or cancelled.
        reason: why it is paused or failed.
        best_score: of the best candidate that was scored on all examples, 0 to 100; None: there is none yet.
        best: what that one is called.
        candidates: how many there were; `stopped` of them could win no more.
        stopped: see `candidates`.
        expected: how many candidates there will be; None: not known.
        runs: evaluations, bootstraps and rounds of proposals; `running` of them are under way.
        running: see `runs`.
        examples: that are done of those runs, of `of`.
        of: see `examples`.
        calls: LM calls.
        cost: USD; what has no known price is not in it.
        budget: USD; None: no limit. `max_calls` and `max_seconds` are limits, too.
        max_calls: see `budget`.
        max_seconds: see `budget`.
        duration: seconds under way.
        remaining: seconds that it may take still; None: nobody can tell.
        created_at: wall-clock seconds since 1970.
    """

    run_id: str
    optimizer: str
    program: str
    state: str
    reason: str | None
    best_score: float | None
    best: str | None
    candidates: int
    stopped: int
    expected: int | None
    runs: int
    running: int
    examples: int
    of: int
    calls: int
    cost: float
    budget: float | None
    max_calls: int | None
    max_seconds: float | None
    duration: float
    remaining: float | None
    created_at: float


def status_of(
    row: RunRow, found: Sequence[Found], parts: Sequence[Part], now: float | None = None, result: Found | None = None
) -> OptimizationStatus:
    """Return how an optimisation stands.

    Args:
        row: its run.
        found: its candidates.
        parts: the runs of its steps.
        now: wall-clock seconds, to count one that is running up to now.
        result: what it came to, once it is finished.
    """
    settings = row.spec.settings
    best = best_of([one for one in found if one.whole and one.score is not None], result)
    duration = duration_of(row, now)
    expected = settings.get("expected")
    return OptimizationStatus(
        run_id=row.run_id,
        optimizer=settings.get("optimizer", ""),
        program=settings.get("program", ""),
        state=row.state,
        reason=row.reason,
        best_score=None if best is None else best.score,
        best=None if best is None else best.name,
        candidates=len(found),
        stopped=sum(1 for part in parts if part.reason == CANNOT_WIN),
        expected=expected,
        runs=len(parts),
        running=sum(1 for part in parts if part.state == "running"),
        examples=sum(part.done for part in parts),
        of=sum(part.done if part.state == "cancelled" else part.total or part.done for part in parts),
        calls=sum(part.asked for part in parts),
        cost=sum(part.cost for part in parts),
        budget=settings.get("budget"),
        max_calls=settings.get("max_calls"),
        max_seconds=settings.get("max_seconds"),
        duration=round(duration, 3),
        remaining=_remaining(row.state, len(found), expected, settings.get("expected_examples"), parts, duration),
        created_at=row.created_at,
    )


def _remaining(
    state: str,
    candidates: int,
    expected: int | None,
    expected_examples: int | None,
    parts: Sequence[Part],
    duration: float,
) -> float | None:
    """Return seconds that are left, if what is left takes as long as what is done."""
    if state == "finished":
        return 0.0
    if expected:
        under_way = sum(part.done / part.total for part in parts if part.state == "running" and part.total)
        share = min(1.0, (candidates + under_way) / expected)
    elif expected_examples:
        share = min(1.0, sum(part.done for part in parts) / expected_examples)
    else:
        return None
    return round(duration * (1 - share) / share, 1) if share > 0 else None
