"""DSPy's own programs here: distributed, durable and paced, without a changed line.

`dspex.evaluate(program, ...)`, `dspex.stream_inference` and ecosystems take a `dspy.Module` as they take a
`dspex.Module`. DSPy's optimisers and everything else of DSPy's ask through our LMs where these are DSPy's LM:

    import dspy
    from dspex_actors.dspy import LM

    system = dspex.connect()
    dspy.configure(lm=LM("openai/gpt-4o-mini", rpm=500))     # budgets, cache, cost and fallbacks of ours

`pip install 'dspex-actors[dspy]'` brings DSPy; nothing here is loaded without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspex_actors.dspy.lm import LM

__all__ = ["LM"]


def __getattr__(name: str) -> Any:
    if name != "LM":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dspex_actors.dspy.lm import LM

    return LM
