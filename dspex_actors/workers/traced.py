"""What a program's predictors were given and gave in one example, as plain rows that go with its result.

`Result.extra` of a run with the setting `traces` has
    trace    [predictor's name, inputs, outputs] for each call of a predictor of the program, in order
    unread   of a program that ended with an answer that could not be read: [predictor's name, inputs, the answer]
"""

from __future__ import annotations

from typing import Any

from dspex_actors.errors import AdapterParseError
from dspex_actors.programs.module import Module
from dspex_actors.settings import settings


class Traced:
    """Reads the trace of a program's calls.

    Args:
        program: the program; what is no Module has no predictors.
    """

    def __init__(self, program: Any) -> None:
        """Remember the names of its predictors."""
        named = program.named_predictors() if isinstance(program, Module) else []
        self._predictors = list(named)
        self._names = {id(predictor): name for name, predictor in self._predictors}

    def kept(self, inputs: dict[str, Any], error: BaseException | None) -> dict[str, Any]:
        """Return what is to be kept of the call that has just ended; inside its settings.

        Args:
            inputs: of the program.
            error: it ended with this.
        """
        rows = []
        for predictor, given, gave in settings.trace or ():
            name = self._names.get(id(predictor)) or self._alike(predictor)
            if name is not None:
                rows.append([name, dict(given), dict(gave.items())])
        found: dict[str, Any] = {"trace": rows}
        if isinstance(error, AdapterParseError):
            name = self._of(error)
            if name is not None:
                found["unread"] = [name, dict(inputs), error.completion or ""]
        return found

    def _alike(self, predictor: Any) -> str | None:
        """Return the name of the predictor with an equal signature: the program made itself a copy of it."""
        signature = predictor.signature
        return next((name for name, one in self._predictors if one.signature.equals(signature)), None)

    def _of(self, error: AdapterParseError) -> str | None:
        """Return whose answer could not be read."""
        signature = error.signature
        for name, one in self._predictors:
            if signature is not None and one.signature.equals(signature):
                return name
        wanted = error.expected
        return next((name for name, one in self._predictors if list(one.signature.output_fields) == wanted), None)
