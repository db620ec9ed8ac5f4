"""The wire formats, by the name that their provider has in a model string."""

from dspex_actors.embedded.wire.anthropic import Anthropic
from dspex_actors.embedded.wire.base import Answer, Call, RequestError, Trouble, Wire
from dspex_actors.embedded.wire.cohere import Cohere
from dspex_actors.embedded.wire.embeddings import OpenAIEmbeddings
from dspex_actors.embedded.wire.gemini import Gemini
from dspex_actors.embedded.wire.openai import OpenAI
from dspex_actors.embedded.wire.responses import Responses

WIRES: dict[str, Wire] = {
    "openai": OpenAI(),
    "anthropic": Anthropic(),
    "gemini": Gemini(),
    "cohere": Cohere(),
    "openai-embeddings": OpenAIEmbeddings(),
    "openai-responses": Responses(),
}

__all__ = ["WIRES", "Answer", "Call", "RequestError", "Trouble", "Wire"]
