"""Those who wait for runs to end: each is answered when one of its runs has ended, or when its time is up.

A waiter is an address that is kept, nobody stands still for it. It is told as soon as this keeper writes the end of one
of its runs down. What another one has written (a run that another node took, all with one journal) is found by looking:
once per run, however many wait for it. The answer is no news: who is answered looks at its run, and may ask again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.journal.errors import JournalError
from supervisors import Caller, GenServer

#: Runs that somebody waits for are looked at this often, in seconds.
LOOK_SECONDS = 0.25
#: Nobody waits longer than so many seconds, nor for more runs, at a time.
MOST_SECONDS, MOST_RUNS = 60.0, 1000


@dataclass(slots=True, eq=False)
class _Waiter:
    """Who waits."""

    caller: Caller
    run_ids: frozenset[str]
    #: Answers it when its time is up.
    timer: asyncio.TimerHandle | None = field(default=None)


class Waiting:
    """Those who wait for runs of one keeper.

    Args:
        keeper: who answers them.
        goes_on: tells whether a run is under way; it may raise `JournalError`.
    """

    def __init__(self, keeper: GenServer, goes_on: Callable[[str], bool]) -> None:
        """Have nobody wait."""
        self._keeper, self._goes_on = keeper, goes_on
        self._waiters: dict[str, set[_Waiter]] = {}
        self._looking: asyncio.TimerHandle | None = None

    def ask(self, caller: Caller, run_ids: Any, seconds: Any) -> None:
        """Answer a caller with those of some runs that have ended, as soon as one has; with none when its time is up.

        Args:
            caller: who asks.
            run_ids: the runs; one that is not there has ended.
            seconds: how long it waits at most; 0: not at all.

        Raises:
            ConfigError: these are no runs, or no seconds.
            JournalError: the journal cannot say how they are.
        """
        waiter = _Waiter(caller, _checked(run_ids, seconds))
        ended = [run_id for run_id in sorted(waiter.run_ids) if not self._goes_on(run_id)]
        if ended or seconds <= 0 or not waiter.run_ids:
            self._keeper.reply(caller, ("ok", ended))
            return
        for run_id in waiter.run_ids:
            self._waiters.setdefault(run_id, set()).add(waiter)
        loop = asyncio.get_running_loop()
        waiter.timer = loop.call_later(min(seconds, MOST_SECONDS), self._answer, waiter, [])
        self._keeper.when_given_up(caller, lambda: self._leave(waiter))
        if self._looking is None:
            self._looking = loop.call_later(LOOK_SECONDS, self._look)

    def changed(self, *run_ids: str) -> None:
        """Take in that something of runs is another one now; who waits for one that has ended is told."""
        for run_id in run_ids:
            if run_id in self._waiters and self._has_ended(run_id):
                for waiter in list(self._waiters[run_id]):
                    self._answer(waiter, [run_id])

    def _look(self) -> None:
        self._looking = None
        self.changed(*list(self._waiters))
        if self._waiters:
            self._looking = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _has_ended(self, run_id: str) -> bool:
        try:
            return not self._goes_on(run_id)
        except JournalError:
            return False  # it is looked at again

    def _answer(self, waiter: _Waiter, ended: Sequence[str]) -> None:
        self._leave(waiter)
        self._keeper.reply(waiter.caller, ("ok", list(ended)))

    def _leave(self, waiter: _Waiter) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
        for run_id in waiter.run_ids:
            if (others := self._waiters.get(run_id)) is not None:
                others.discard(waiter)
                if not others:
                    del self._waiters[run_id]


def _checked(run_ids: Any, seconds: Any) -> frozenset[str]:
    """Return runs that somebody asks for.

    Raises:
        ConfigError: these are no runs, too many of them, or no seconds.
    """
    if not isinstance(run_ids, list | tuple) or not all(isinstance(run_id, str) for run_id in run_ids):
        raise ConfigError(f"run ids to wait for are a list of texts, got {run_ids!r:.100}")
    if len(run_ids) > MOST_RUNS:
        raise ConfigError(f"at most {MOST_RUNS:,} runs can be waited for at a time, got {len(run_ids):,}")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or math.isnan(seconds):
        raise ConfigError(f"how long to wait is a number of seconds, got {seconds!r:.100}")
    return frozenset(run_ids)
