"""How an optimisation ends early, beside what its steps fail by."""

from __future__ import annotations

from dspex_actors.errors import RunFailed, RunInterrupted


class Cancelled(RunFailed):
    """An optimisation was ended for good."""


class TakenOver(RunInterrupted):
    """An optimisation belongs to somebody else by now, who goes on with its runs."""


class Away(RunInterrupted):
    """Nobody could be asked about the runs of an optimisation; nothing has been decided about it."""
