"""The providers' wire formats: pure translation between calls and HTTP, one module each."""

from __future__ import annotations

from dspex_actors.lm.wire.anthropic import Anthropic
from dspex_actors.lm.wire.base import Provider
from dspex_actors.lm.wire.cohere import Cohere
from dspex_actors.lm.wire.embeddings import CohereEmbeddings, EmbeddedEmbeddings, GeminiEmbeddings, OpenAIEmbeddings
from dspex_actors.lm.wire.gemini import Gemini
from dspex_actors.lm.wire.openai import Embedded, OpenAI
from dspex_actors.lm.wire.responses import EmbeddedResponses, Responses

#: Every provider by the name it has in model strings.
PROVIDERS: dict[str, Provider] = {
    provider.name: provider for provider in (OpenAI(), Anthropic(), Gemini(), Cohere(), Embedded())
}

#: The other ways to ask a provider, by the model type that an LM has. All of a provider's share its keys and errors.
_OTHER_TYPES: dict[str, dict[str, Provider]] = {
    "responses": {provider.name: provider for provider in (Responses(), EmbeddedResponses())},
    "embeddings": {
        provider.name: provider
        for provider in (OpenAIEmbeddings(), GeminiEmbeddings(), CohereEmbeddings(), EmbeddedEmbeddings())
    },
}
#: What an LM may be asked for: "chat" is what nearly all are.
MODEL_TYPES = ("chat", *_OTHER_TYPES)


def wire_for(provider: str, model_type: str = "chat") -> Provider | None:
    """Return the format in which a provider's models of a type are asked; None: it has none."""
    return PROVIDERS[provider] if model_type == "chat" else _OTHER_TYPES[model_type].get(provider)


__all__ = [
    "MODEL_TYPES",
    "PROVIDERS",
    "Anthropic",
    "Cohere",
    "Embedded",
    "Gemini",
    "OpenAI",
    "Provider",
    "Responses",
    "wire_for",
]
