"""An optimisation's run in the journal: whose it is, what it has found so far, whether it is to go on.

It is a run of kind `optimise`; the runs of its steps are its parts (`RunSpec.parent_id`). Its own steps are the
candidates, each under the name that its generator gives it, so that one that is told again is the one that is there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, replace
from typing import Any

from dspex_actors.client.system import System, current_system
from dspex_actors.errors import BudgetExceeded, ConfigError, DspexError, RunInterrupted
from dspex_actors.foundation.secrets import scrub
from dspex_actors.journal.errors import JournalError
from dspex_actors.journal.index import new_run_id
from dspex_actors.journal.records import RunSpec, RunState, StepRow
from dspex_actors.journal.sameness import IN_NODE, OPTIMISE
from dspex_actors.names import check_run_id
from dspex_actors.runs.budget import BUDGET
from dspex_actors.runs.identity.parts import data_identity, metric_name, program_identity, run_identity
from dspex_actors.runs.keeper.workflows import this_process
from dspex_actors.runs.optimisations import CANDIDATE, RESULT, pack_found
from dspex_actors.settings import settings
from dspex_actors.teleprompt.endings import Away, Cancelled, TakenOver
from dspex_actors.teleprompt.given import Given, given
from dspex_actors.teleprompt.limits import Limits
from dspex_actors.teleprompt.made_of import settings_of, told_as
from dspex_actors.teleprompt.step_runs import AT_ONCE
from dspex_actors.teleprompt.steps import Candidate
from dspex_actors.teleprompt.trainset import read_trainset, title
from dspex_actors.workflow.durable import ask, counted

#: It is looked this often whether it is to go on, in seconds.
LOOK_SECONDS = 0.25
#: A journal that cannot take a candidate in, as one that waits for its copies, is asked again for so many seconds.
JOURNAL_SECONDS = 20.0
#: What is added to an optimisation's id to name the runs of its steps is not longer than that.
LONGEST_ID = 100
#: The optimisation that this code is carried out for, if somebody else has opened it.
_opened: ContextVar[Book | None] = ContextVar("dspex_optimisation", default=None)


class Book:
    """The run of an optimisation that is being carried out here.

    Args:
        system: the connection to its node.
        run_id: of the optimisation.
        epoch: of its opening.
        limits: what it may cost.
        tags: of its runs.
        was: how long it was under way before, in seconds.
    """

    def __init__(
        self, system: System, run_id: str, epoch: int, limits: Limits, tags: Mapping[str, str], was: float = 0.0
    ) -> None:
        """Use `opened` instead."""
        self.system, self.run_id, self.limits, self.tags = system, run_id, limits, dict(tags)
        self._epoch, self._was = epoch, was
        self._began = self._looked = time.monotonic()
        self._stopped: str | None = None
        #: Whether its runs are known to be those of this optimisation.
        self.is_known = False
        #: Its user has gone on with it then as another one: runs of before may be others. Wall-clock seconds.
        self.forced_at: float | None = None
        #: Whether all of it is written down.
        self.is_finished = False
        #: Runs that are under way at a time.
        self.at_once = AT_ONCE
        #: Digests of programs that are written down, each with the candidate that has it.
        self._written: dict[str, str] = {}
        #: The best score so far on all examples.
        self._best: float | None = None

    def check(self, *, now: bool = False) -> None:
        """Look whether it is to go on.

        Args:
            now: also where that was done just before.

        Raises:
            RunInterrupted: it was paused, or belongs to somebody else.
            Cancelled: it was ended for good.
        """
        if self._stopped is not None:
            raise RunInterrupted(f"optimisation {self.run_id} is paused: {self._stopped}", run_id=self.run_id)
        if not now and time.monotonic() - self._looked < LOOK_SECONDS:
            return
        try:
            found = self.system.journal.standing(self.run_id)
        except JournalError:
            return  # its runs wait for the journal, too
        self._looked = time.monotonic()
        state, reason, epoch = found or ("gone", "it was deleted", self._epoch)
        if state == "cancelled":
            raise Cancelled(f"optimisation {self.run_id} was cancelled ({reason})", run_id=self.run_id)
        if epoch != self._epoch:
            raise TakenOver(
                f"optimisation {self.run_id} is interrupted: another process goes on with it", run_id=self.run_id
            )
        if state in ("paused", "gone", "failed"):
            raise RunInterrupted(
                f"optimisation {self.run_id} is paused ({reason or state}); the same id goes on with it",
                run_id=self.run_id,
            )

    @property
    def has_told(self) -> bool:
        """Whether a candidate was written down by this process."""
        return bool(self._written)

    def stop(self, why: str) -> None:
        """Have it pause at the next look; from any thread."""
        self._stopped = why

    def spent(self, found: Mapping[str, Any]) -> None:
        """Take in what its runs have cost so far.

        Raises:
            BudgetExceeded: calls or seconds are used up.
        """
        used = self.limits.used_up(found["asked"], self._was + time.monotonic() - self._began)
        if used is not None:
            raise BudgetExceeded(
                f"optimisation {self.run_id} is paused: {used}; a larger budget under the same id goes on",
                run_id=self.run_id,
                spent=found["cost"],
                budget=self.limits.usd,
            )

    def tell(self, key: str, candidate: Candidate) -> None:
        """Write a candidate down.

        Args:
            key: its name among the optimisation's steps.
            candidate: what it is.
        """
        if self.is_finished:
            return
        if candidate.whole and candidate.score is not None:
            self._best = candidate.score if self._best is None else max(self._best, candidate.score)
        digest = program_identity(candidate.program).digest
        same = self._written.setdefault(digest, key)
        program = candidate.program if same == key else None
        data = pack_found(candidate.name, candidate.score, candidate.whole, program, same)
        self._step(key, CANDIDATE, data)

    def keep_result(self, program: Any) -> None:
        """Write down what the optimiser returned."""
        same = self._written.get(program_identity(program).digest, RESULT)
        self._step(RESULT, RESULT, pack_found(RESULT, self._best, True, program, same))

    def end(self, state: RunState, reason: str | None) -> None:
        """Say that this process is through with it; where nobody hears of it, it counts as interrupted."""
        with contextlib.suppress(DspexError):
            ask(self.system, self.run_id, "end", self.run_id, self._epoch, state, reason)

    def _step(self, key: str, kind: str, data: bytes) -> None:
        if self.is_finished:
            return
        row = StepRow(key, kind, 1, time.monotonic() - self._began, time.time(), None, data)
        try:
            self._insist("step", self.run_id, self._epoch, tuple(row))
        except (RunInterrupted, JournalError) as error:
            raise Away(error.message, run_id=self.run_id) from None
        except ConfigError:
            self.check(now=True)
            raise

    def _insist(self, *request: Any) -> None:
        """Ask the keeper of runs; where the journal cannot take it in just now, again: written twice it is there once.

        Raises:
            JournalError: it cannot for so long that another server may try.
        """
        until = time.monotonic() + JOURNAL_SECONDS
        while True:
            try:
                ask(self.system, self.run_id, *request)
                return
            except JournalError:
                self.check(now=True)
                if time.monotonic() > until:
                    raise
            time.sleep(LOOK_SECONDS)


def ended_as(error: BaseException) -> tuple[RunState, str]:
    """Return the state of an optimisation that an error has ended, and why, in words."""
    if isinstance(error, BudgetExceeded):
        return "paused", f"{BUDGET}: {error.message}"
    if isinstance(error, RunInterrupted):
        return "paused", error.message
    if isinstance(error, Exception):
        text = error.message if isinstance(error, DspexError) else str(error)
        return "failed", scrub(f"{type(error).__name__}: {text}")[:2000]
    return "paused", "interrupted by Ctrl-C" if isinstance(error, KeyboardInterrupt) else "its program ended"


def spec_of(
    optimizer: Any,
    student: Any,
    examples: Sequence[Any],
    lm: Any,
    run_id: str,
    more: Mapping[str, Any],
    *,
    valset: Sequence[Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> RunSpec:
    """Return what an optimisation is, as its run has it.

    Args:
        optimizer: an `Optimizer`.
        student: the program.
        examples: the trainset.
        lm: of predictors that have none of their own.
        run_id: its id.
        more: settings that say how it is done.
        valset: what candidates are scored on; None: that was not said.
        arguments: further ones of `compile` (`own_arguments`).
    """
    made = {"optimizer": optimizer.name, **settings_of(optimizer)}
    for name, value in (arguments or {}).items():
        made |= told_as(name, value)
    told = run_identity(student, optimizer.metric or _nothing, lm, made, how=frozenset())
    sets = {"trainset": examples} | ({} if valset is None else {"valset": valset})
    data = data_identity({name: [dict(example.items()) for example in rows] for name, rows in sets.items()})
    told["identity"]["dataset"] = data.parts
    return RunSpec(
        run_id=run_id,
        kind=OPTIMISE,
        dataset={"kind": "trainset", "count": len(examples)},
        dataset_digest=data.digest,
        metric_name="" if optimizer.metric is None else metric_name(optimizer.metric),
        settings={
            "optimizer": optimizer.name,
            "program": title(student),
            **more,
        },
        **told,
    )


def _valset(found: Given, student: Any) -> Sequence[Any] | None:
    """Return the examples that candidates are scored on; None: none were given."""
    if found.valset is None:
        return None
    return found.read["valset"] if "valset" in found.read else read_trainset(found.valset, student, "valset")


def seconds_of(system: System, run_id: str) -> float:
    """Return how long a run has been under way, up to when it was opened last: a life that was killed counts, too."""
    row = system.journal.get_run(run_id)
    return 0.0 if row is None else row.active_seconds


def _nothing(example: Any, prediction: Any, trace: Any = None) -> bool:
    """Stand for a metric where there is none."""
    return True


def checked_id(run_id: str | None) -> str:
    """Return the id of an optimisation; None makes a new one.

    Raises:
        ConfigError: it may not be one.
    """
    run_id = new_run_id(OPTIMISE) if run_id is None else check_run_id(run_id)
    if len(run_id) > LONGEST_ID:
        raise ConfigError(f"run_id is invalid: got {len(run_id)} characters, expected at most {LONGEST_ID}")
    return run_id


@contextmanager
def opened(
    optimizer: Any,
    student: Any,
    examples: Sequence[Any],
    options: Mapping[str, Any],
    tags: Callable[[str], dict[str, str]],
    expected: int | None = None,
) -> Iterator[Book]:
    """Open the run of an optimisation, a new one or the one of this id, wherever its journal is; end it at the end.

    Args:
        optimizer: an `Optimizer`.
        student: the program.
        examples: the trainset.
        options: of `compile`.
        tags: gives those of its runs, by its id.
        expected: how many candidates there will be; None: what the optimiser says.

    Raises:
        ConfigError: the id is that of another run, or of an optimisation that is under way; or nothing is connected.
    """
    book = _opened.get()
    if book is not None:
        yield book  # who has opened it ends it, too
        return
    run_id = checked_id(options.get("run_id"))
    limits = Limits.of(options.get("budget"), options.get("unknown_price", "refuse"))
    system = options.get("system") or current_system()
    with counted(run_id) as is_only_one, system.holding(run_id) as at:
        lm = (
            (None if options.get("system") is not None else settings.lm)
            or settings.around("lm")
            or at.lm
            or settings.lm
        )
        found = given()
        # An optimiser may keep a part of its trainset for itself: what was given is what it is told by.
        examples, valset = found.read.get("trainset", examples), _valset(found, student)
        counts = len(examples), None if valset is None else len(valset)
        if expected is None:
            expected = optimizer.expected(student, *counts, **found.arguments)
        more = {"expected": expected, "expected_examples": optimizer.expected_examples(student, *counts)}
        spec = spec_of(
            optimizer, student, examples, lm, run_id, more | limits.to_settings(),
            valset=valset, arguments=found.arguments,
        )  # fmt: skip
        known = at.journal.get_run(run_id)
        if known is not None and known.spec.settings.get(IN_NODE) and known.state not in ("running", "finished"):
            raise ConfigError(
                f"optimisation {run_id} is the node's: go on with it by system.optimization({run_id!r}).resume()"
            )
        spec = replace(spec, labels=tags(run_id))
        force = bool(options.get("force_resume"))
        epoch = ask(at, run_id, "open", asdict(spec), this_process(), is_only_one, force)
        book = Book(at, run_id, epoch, limits, tags(run_id), seconds_of(at, run_id))
        # One of the node's that is finished is the same, as its own run says; its parts knew their code another way.
        book.is_finished = known is not None and known.state == "finished"
        book.is_known = known is not None and bool(known.spec.settings.get(IN_NODE))
        try:
            yield book
        except BaseException as error:
            book.end(*ended_as(error))
            raise
        book.end("finished", None)


@contextmanager
def carried_for(book: Book) -> Iterator[None]:
    """Have an optimiser's `compile` inside of the `with` be the optimisation of a book."""
    token = _opened.set(book)
    try:
        yield
    finally:
        _opened.reset(token)


def carried_id() -> str | None:
    """Return the id of the optimisation that this code is carried out for, if somebody else has opened it."""
    book = _opened.get()
    return None if book is None else book.run_id


def is_carried() -> bool:
    """Tell whether this code is carried out for an optimisation that somebody else has opened."""
    return _opened.get() is not None
