"""`TheirLM`: an LM of the user's own that is written for DSPy, as one of ours. Imports nothing of DSPy's."""

from __future__ import annotations

from typing import Any

from dspex_actors.lm.base import BaseLM


class TheirLM(BaseLM):
    """Asks a `dspy.BaseLM` of the user's own. It travels to the workers with it.

    Args:
        lm: DSPy's.
    """

    def __init__(self, lm: Any) -> None:
        """Keep it."""
        super().__init__(str(getattr(lm, "model", None) or type(lm).__name__))
        self.lm = lm

    def forward(self, messages: list[dict[str, Any]], **params: Any) -> Any:
        """Answer one call: as it answers DSPy, the first answer of a list."""
        import dspy

        if type(self.lm).__call__ is dspy.BaseLM.__call__:
            return self.lm.forward(messages=messages, **{**self.lm.kwargs, **params})
        first = self.lm(messages=messages, **params)[0]
        return first["text"] if isinstance(first, dict) else first
