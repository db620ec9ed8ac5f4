"""The embedded LM: a language model without weights, behind a real HTTP server.

It answers like the nearest example in its prompt, says so, and speaks OpenAI's, Anthropic's, Gemini's and
Cohere's wire formats, with their limits and their failures on request. For tests, demonstrations and
measurements; never a substitute for a model's knowledge.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dspex_actors.embedded.config import EmbeddedConfig

if TYPE_CHECKING:
    from dspex_actors.embedded.learner import Learner
    from dspex_actors.embedded.run import parse_faults
    from dspex_actors.embedded.server import RunningServer, start_server
    from dspex_actors.embedded.service import Stats

__all__ = ["EmbeddedConfig", "Learner", "RunningServer", "Stats", "parse_faults", "start_server"]

#: Where the rest is: an HTTP server is imported only by who serves.
_LATER = {
    "Learner": "learner",
    "RunningServer": "server",
    "Stats": "service",
    "parse_faults": "run",
    "start_server": "server",
}


def __getattr__(name: str) -> Any:
    """Import a part at its first use."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
