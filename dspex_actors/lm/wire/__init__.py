"""The providers' wire formats: pure translation between calls and HTTP, one module each."""

from __future__ import annotations

from dspex_actors.lm.wire.anthropic import Anthropic
from dspex_actors.lm.wire.base import Provider
from dspex_actors.lm.wire.cohere import Cohere
from dspex_actors.lm.wire.gemini import Gemini
from dspex_actors.lm.wire.openai import Embedded, OpenAI

#: Every provider by the name it has in model strings.
PROVIDERS: dict[str, Provider] = {
    provider.name: provider for provider in (OpenAI(), Anthropic(), Gemini(), Cohere(), Embedded())
}

__all__ = ["PROVIDERS", "Anthropic", "Cohere", "Embedded", "Gemini", "OpenAI", "Provider"]
