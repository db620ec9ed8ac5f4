"""Which address speaks which provider's format. Pure.

The providers' own addresses, and those at which their SDKs ask with other settings: other versions of an API, Azure's
and Vertex's prefixes, a base address with or without `/v1`, and gateways that put a path of their own before it.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Route(NamedTuple):
    """A format by its name, and the model in the address, if it is told there."""

    wire: str
    model: str = ""


#: What is asked nearly always.
_USUAL = {
    "/v1/chat/completions": Route("openai"),
    "/v1/messages": Route("anthropic"),
    "/v2/chat": Route("cohere"),
}
_AZURE = re.compile(r"/openai/deployments/([^/]+)/chat/completions")
_GEMINI = re.compile(r"/v\d+\w*/(?:.+/)?(?:models|tunedModels)/([^/]+):(generateContent|streamGenerateContent)")
_ENDS = (("/chat/completions", "openai"), ("/v1/messages", "anthropic"), ("/v2/chat", "cohere"))
_VERSION_OF_GEMINI = re.compile(r"/v\d+(?:alpha|beta)\d*/|.*/(?:models|tunedModels)/[^/]+:\w+$")


def route(path: str) -> Route | None:
    """Return which format a call to this address has; None: it is no call to a model that is served."""
    usual = _USUAL.get(path)
    if usual is not None:
        return usual
    if found := _GEMINI.fullmatch(path):
        return Route("gemini", found[1]) if found[2] == "generateContent" else None
    if found := _AZURE.fullmatch(path):
        return Route("openai", found[1])
    return next((Route(wire) for end, wire in _ENDS if path.endswith(end)), None)


def streams(path: str) -> bool:
    """Tell whether an address asks for a stream, where the address says so."""
    found = _GEMINI.fullmatch(path)
    return found is not None and found[2] == "streamGenerateContent"


def family(path: str) -> str:
    """Return in whose words an address that is not served is refused."""
    if path.startswith("/v1/messages"):
        return "anthropic"
    if _VERSION_OF_GEMINI.match(path):
        return "gemini"
    return "cohere" if path.startswith("/v2/") else "openai"
