"""An optimiser's generators, carried on by what their steps come to. Pure: which runs there are to make.

Their names depend on nothing but the order in which each generator yields: repeated, a step has the same name again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dspex_actors.teleprompt.steps import Candidate, Run, Step, Steps, Together


@dataclass(slots=True, eq=False)
class Task:
    """A run to make.

    Args:
        name: of the step: numbers with dots between them.
        step: what it is.
        strand: whose it is.
    """

    name: str
    step: Run
    strand: _Strand


@dataclass(slots=True, eq=False)
class _Failed:
    """In the place of what an item of `Together` came to: why it came to nothing."""

    error: BaseException


@dataclass(slots=True, eq=False)
class _Strand:
    """A generator that goes on by itself."""

    steps: Steps
    #: What its steps' names begin with.
    prefix: str
    parent: _Strand | None = None
    place: int = 0
    count: int = 0
    told: int = 0
    task: Task | None = None
    #: Of `Together`: what goes on, what has come, and when that is enough.
    others: list[_Strand] = field(default_factory=list)
    came: dict[int, Any] = field(default_factory=dict)
    enough: Callable[[list[Any]], bool] | None = None
    over: bool = False


class Strands:
    """The generators of one optimisation.

    `todo` are the runs to start, in order. `dropped` are those that nobody waits for any more, started or not: whoever
    carries them out takes them off. When `over`, `result` is what the first generator returned.

    Args:
        steps: the optimiser.
        tell: is called with each candidate and, before it, a name for it that is the same whenever it is repeated; in
            no order that repeats.
    """

    def __init__(self, steps: Steps, tell: Callable[[str, Candidate], None] | None = None) -> None:
        """Begin: the first runs are in `todo`."""
        self.todo: deque[Task] = deque()
        self.dropped: list[Task] = []
        self.over, self.result = False, None
        self._tell = tell
        self._go_on: deque[tuple[_Strand, Any, BaseException | None]] = deque()
        self._first = _Strand(steps, "")
        self._go_on.append((self._first, None, None))
        self._run()

    def done(self, task: Task, outcome: Any) -> None:
        """Take in what a run came to; of one that was dropped, nothing."""
        self._end(task, outcome, None)

    def failed(self, task: Task, error: BaseException) -> None:
        """Take in that a run failed: its generator is told, and if that does not catch it, the one that waits for it.

        Raises:
            BaseException: the error, if no generator catches it.
        """
        self._end(task, None, error)

    @property
    def turn(self) -> int:
        """How many steps the first generator has made: it makes the next when what it waits for is there, all of it."""
        return self._first.count

    def close(self) -> None:
        """End all generators, those of others before the one that waits for them."""
        self._close(self._first)

    def _close(self, strand: _Strand) -> None:
        for other in strand.others:
            self._close(other)
        strand.over = True
        strand.steps.close()

    def _end(self, task: Task, outcome: Any, error: BaseException | None) -> None:
        strand = task.strand
        if strand.over or strand.task is not task:
            return
        strand.task = None
        self._go_on.append((strand, outcome, error))
        self._run()

    def _run(self) -> None:
        while self._go_on:
            strand, outcome, error = self._go_on.popleft()
            if strand.over:
                continue
            try:
                step = strand.steps.send(outcome) if error is None else strand.steps.throw(error)
            except StopIteration as stopped:
                strand.over = True
                self._ended(strand, stopped.value)
            except BaseException as uncaught:
                strand.over = True
                if strand.parent is None:
                    raise
                if strand.parent.enough is None:
                    self._give_up(strand.parent)
                    self._go_on.append((strand.parent, None, uncaught))
                else:
                    # What comes before it may be enough, whichever of them is ready first.
                    self._ended(strand, _Failed(uncaught))
            else:
                self._take(strand, step)

    def _take(self, strand: _Strand, step: Step) -> None:
        if isinstance(step, Candidate):
            strand.told += 1
            if self._tell is not None:
                self._tell(f"{strand.prefix}c{strand.told}", step)
            self._go_on.append((strand, None, None))
            return
        name = f"{strand.prefix}{strand.count}"
        strand.count += 1
        if isinstance(step, Together):
            strand.came, strand.enough = {}, step.enough
            strand.others = [
                _Strand(_only(item), f"{name}.{place}.", strand, place)
                if isinstance(item, Run | Candidate | Together)
                else _Strand(item, f"{name}.{place}.", strand, place)
                for place, item in enumerate(step.items)
            ]
            if strand.others:
                self._go_on.extend((other, None, None) for other in strand.others)
            else:
                self._go_on.append((strand, [], None))
        elif isinstance(step, Run):
            strand.task = Task(name, step, strand)
            self.todo.append(strand.task)
        else:
            raise TypeError(f"an optimiser yields steps, got {step!r:.100}")

    def _ended(self, strand: _Strand, value: Any) -> None:
        parent = strand.parent
        if parent is None:
            self.over, self.result = True, value
            return
        parent.came[strand.place] = value
        first: list[Any] = []
        while len(first) in parent.came:
            came = parent.came[len(first)]
            if isinstance(came, _Failed):
                self._give_up(parent)
                self._go_on.append((parent, None, came.error))
                return
            first.append(came)
            if parent.enough is not None and parent.enough(first):
                break
        else:
            if len(first) < len(parent.others):
                return
        self._give_up(parent)
        self._go_on.append((parent, first, None))

    def _give_up(self, strand: _Strand) -> None:
        """End all that a strand waits for."""
        for other in strand.others:
            if not other.over:
                other.over = True
                self._give_up(other)
                other.steps.close()
        if strand.task is not None:
            if strand.task in self.todo:
                self.todo.remove(strand.task)
            self.dropped.append(strand.task)
            strand.task = None
        strand.others = []


def _only(step: Step) -> Steps:
    return (yield step)
