"""Ensemble: several programs answer, a function makes one answer of theirs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from dspex_actors.foundation.checks import is_whole
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.programs.attempts import Hidden
from dspex_actors.programs.module import Module
from dspex_actors.programs.steps import Ask, Parallel, Steps


class Ensemble:
    """Make one program of several, as DSPy's `Ensemble`; they are asked at once.

        together = dspex.Ensemble(reduce_fn=dspex.majority).compile([first, second, third])

    Args:
        reduce_fn: makes the result of the list of theirs, `dspex.majority` for example; None: the list is the result.
        size: of so many, drawn anew for each call; None: of all.
        deterministic: draw the same ones for the same inputs; DSPy's refuses it.

    Raises:
        ConfigError: a setting is not usable.
    """

    def __init__(
        self,
        *,
        reduce_fn: Callable[[list[Any]], Any] | None = None,
        size: int | None = None,
        deterministic: bool = False,
    ) -> None:
        """Check the settings."""
        if reduce_fn is not None and not callable(reduce_fn):
            raise ConfigTypeError(f"reduce_fn is invalid: got {reduce_fn!r:.80}, expected a function of a list")
        if size is not None and not is_whole(size, 1):
            raise ConfigValueError(f"size is invalid: got {size!r:.60}, expected a whole number of at least 1, or None")
        self.reduce_fn, self.size, self.deterministic = reduce_fn, size, bool(deterministic)

    def compile(self, programs: Iterable[Module]) -> EnsembledProgram:
        """Return the program that asks them.

        Args:
            programs: they are shared, not copied.

        Raises:
            ConfigError: one is no program, or there are fewer than `size`.
        """
        if not isinstance(programs, Iterable):
            raise ConfigTypeError(f"programs is invalid: got {programs!r:.80}, expected a list of programs")
        found = list(programs)
        for place, program in enumerate(found):
            if not callable(program):
                raise ConfigTypeError(f"programs[{place}] is invalid: got {program!r:.80}, expected a program")
        if len(found) < (self.size or 1):
            raise ConfigValueError(f"programs is invalid: got {len(found)}, expected at least {self.size or 1}")
        return EnsembledProgram(found, self.reduce_fn, self.size, self.deterministic)


class EnsembledProgram(Module):
    """What `Ensemble.compile` returns; `programs` are those that it asks."""

    def __init__(self, programs: list[Any], reduce_fn: Any, size: int | None, deterministic: bool) -> None:
        """Keep them."""
        self.programs = programs
        self.reduce_fn = None if reduce_fn is None else Hidden(reduce_fn)
        self.size, self.deterministic = size, deterministic

    def steps(self, /, *args: Any, **kwargs: Any) -> Steps:
        """Ask all at once."""
        chosen = self.programs
        if self.size is not None:
            draw = random.Random(repr((args, sorted(kwargs.items())))) if self.deterministic else random  # noqa: S311
            chosen = draw.sample(self.programs, self.size)
        results = yield Parallel([Ask(program, *args, **kwargs) for program in chosen])
        return results if self.reduce_fn is None else (yield Ask(self.reduce_fn, results))

    def _stands_for(self) -> Module | None:
        return self.programs[0] if isinstance(self.programs[0], Module) else None
