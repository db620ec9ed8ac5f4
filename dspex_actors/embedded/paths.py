"""Which address speaks which provider's format. Pure.

The providers' own addresses, and those at which their SDKs ask with other settings: other versions of an API, Azure's
and Vertex's prefixes, a base address with or without `/v1`, and the paths that gateways put before it (`/openai`,
`/api`). Any other is nobody's, as `/v1/v1/chat/completions` is: a wrong `base_url` is to be found out here, and not at
the provider.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Route(NamedTuple):
    """A format by its name, and what the address tells of the call."""

    wire: str
    model: str = ""
    #: The address says that the answer is to be streamed.
    stream: bool = False


#: What is asked nearly always.
_USUAL = {
    "/v1/chat/completions": Route("openai"),
    "/v1/messages": Route("anthropic"),
    "/v2/chat": Route("cohere"),
    "/v1/embeddings": Route("openai-embeddings"),
    "/v1/responses": Route("openai-responses"),
}
#: What may stand before an ending: names of gateways and providers, a version, and Google's face of OpenAI's API.
_NAMES = r"(?:/(?:openai|anthropic|cohere|gemini|google|azure|api|compat|compatibility|inference|proxy|gateway|llm))*"
_BEFORE = re.compile(rf"{_NAMES}(?:/v\d+(?:(?:alpha|beta)\d*)?)?(?:/openai)?")
_BEFORE_VERSION = re.compile(_NAMES)
_AZURE = re.compile(r"/openai/deployments/([^/]+)/chat/completions")
_GEMINI = re.compile(r"/v\d+\w*/(?:.+/)?(?:models|tunedModels)/([^/]+):(generateContent|streamGenerateContent)")
_ENDS = (
    ("/chat/completions", _BEFORE, "openai"),
    ("/embeddings", _BEFORE, "openai-embeddings"),
    ("/responses", _BEFORE, "openai-responses"),
    ("/v1/messages", _BEFORE_VERSION, "anthropic"),
    ("/v2/chat", _BEFORE_VERSION, "cohere"),
)
_VERSION_OF_GEMINI = re.compile(r"/v\d+(?:alpha|beta)\d*/|.*/(?:models|tunedModels)/[^/]+:\w+$")


def route(path: str) -> Route | None:
    """Return which format a call to this address has; None: it is no call to a model that is served."""
    usual = _USUAL.get(path)
    if usual is not None:
        return usual
    if found := _GEMINI.fullmatch(path):
        return Route("gemini", found[1], found[2] == "streamGenerateContent")
    if found := _AZURE.fullmatch(path):
        return Route("openai", found[1])
    for end, before, wire in _ENDS:
        if path.endswith(end) and before.fullmatch(path, 0, len(path) - len(end)):
            return Route(wire)
    return None


def hint(url: str) -> str:
    """Return which base addresses are right, for who asks at another one.

    Args:
        url: the root of the server.
    """
    return f"base_url is {url}/v1 for openai, and {url} for anthropic, gemini and cohere"


def family(path: str) -> str:
    """Return in whose words an address that is not served is refused."""
    if path.startswith("/v1/messages"):
        return "anthropic"
    if _VERSION_OF_GEMINI.match(path):
        return "gemini"
    return "cohere" if path.startswith("/v2/") else "openai"
