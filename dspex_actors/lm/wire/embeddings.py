"""The providers' embeddings: many texts in, one vector each. Each format shares key, errors and retries with its chat.

A text to embed is a message of a call like any other, so that budgets, cache and books need to know of nothing new.
"""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import Callable, Mapping
from sys import byteorder
from typing import Any
from urllib.parse import quote

from dspex_actors.errors import InvalidRequest, Overloaded
from dspex_actors.lm.content.vectors import Vectors
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire.base import count, entries, table, word
from dspex_actors.lm.wire.cohere import Cohere
from dspex_actors.lm.wire.content import refuse
from dspex_actors.lm.wire.decoding import Decoder
from dspex_actors.lm.wire.exchange import WireReply
from dspex_actors.lm.wire.gemini import Gemini
from dspex_actors.lm.wire.openai import Embedded, OpenAI

#: Bytes of a 32-bit float.
_FLOAT = 4
#: Our names for Gemini's.
_GEMINI_NAMES = {"dimensions": "outputDimensionality", "task_type": "taskType"}
_COHERE_NAMES = {"dimensions": "output_dimension"}


def texts_of(provider: str, messages: list[dict[str, Any]]) -> list[str]:
    """Return the texts that a call asks vectors for.

    Raises:
        InvalidRequest: a message is no text.
    """
    texts = [message.get("content") for message in messages]
    if not all(isinstance(text, str) for text in texts):
        raise refuse(provider, "only texts have embeddings")
    return texts  # type: ignore[return-value]


def packed(rows: list[Any]) -> Vectors:
    """Return vectors, each a list of numbers or base64 text of 32-bit floats, in one piece.

    Raises:
        ValueError, TypeError: they are no vectors of one length.
    """
    pieces = [base64.b64decode(row, validate=True) if isinstance(row, str) else _bytes(row) for row in rows]
    sizes = {len(piece) for piece in pieces}
    if len(sizes) != 1 or (size := sizes.pop()) == 0 or size % _FLOAT:
        raise ValueError("vectors of different lengths")
    return Vectors(b"".join(pieces), size // _FLOAT)


def _bytes(row: Any) -> bytes:
    numbers = array("f", row)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number that is none")
    if byteorder != "little":
        numbers.byteswap()
    return numbers.tobytes()


def _reply(provider: str, rows: list[Any], usage: Usage | None, model: object, request_id: object) -> WireReply:
    if not rows:
        raise Overloaded(f"{provider} answered without a vector", retryable=True)
    return WireReply(
        text="",
        usage=usage,
        finish_reason="stop",
        model=word(model),
        request_id=word(request_id),
        parts=(packed(rows),),
    )


class _Whole:
    """Embeddings are not streamed."""

    name: str

    def decoder(self, status: int, headers: Mapping[str, str]) -> Decoder:
        """Refuse."""
        raise InvalidRequest(f"{self.name}: embeddings are not streamed", retryable=False)


class OpenAIEmbeddings(_Whole, OpenAI):
    """`POST {base}/embeddings`, and every server that speaks it."""

    def path(self, model: str) -> str:
        """Return the embeddings' path."""
        return "/embeddings"

    def payload(self, model: str, messages: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """Ask for base64: a quarter of the JSON."""
        return {"model": model, "input": texts_of(self.name, messages), "encoding_format": "base64", **params}

    def parse(self, data: dict[str, Any]) -> WireReply:
        """Read the vectors in the order of their index; a server may send lists instead."""
        rows = sorted(entries(data["data"]), key=lambda row: count(row.get("index")))
        return _reply(
            self.name, [row["embedding"] for row in rows], self.usage(data), data.get("model"), data.get("id")
        )


class EmbeddedEmbeddings(OpenAIEmbeddings, Embedded):
    """Those of the LM inside the node."""


class GeminiEmbeddings(_Whole, Gemini):
    """`POST {base}/v1beta/models/{model}:batchEmbedContents`."""

    def path(self, model: str) -> str:
        """Return the model's own path."""
        return f"/v1beta/models/{quote(model.removeprefix('models/'), safe='')}:batchEmbedContents"

    def payload(self, model: str, messages: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """Write a request per text."""
        name = f"models/{model.removeprefix('models/')}"
        options = {_GEMINI_NAMES.get(key, key): value for key, value in params.items()}
        return {
            "requests": [
                {"model": name, "content": {"parts": [{"text": text}]}, **options}
                for text in texts_of(self.name, messages)
            ]
        }

    def parse(self, data: dict[str, Any]) -> WireReply:
        """Read the vectors. Their tokens are told by some versions only."""
        rows = [row["values"] for row in entries(data["embeddings"])]
        return _reply(self.name, rows, self.usage(data), data.get("modelVersion"), data.get("responseId"))


class CohereEmbeddings(_Whole, Cohere):
    """`POST {base}/v2/embed`."""

    def path(self, model: str) -> str:
        """Return the embeddings' path."""
        return "/v2/embed"

    def payload(self, model: str, messages: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """Cohere must be told what the vectors are for: for documents, where nothing else is said."""
        options = {_COHERE_NAMES.get(key, key): value for key, value in params.items()}
        return {
            "model": model,
            "texts": texts_of(self.name, messages),
            "input_type": "search_document",
            "embedding_types": ["float"],
            **options,
        }

    def parse(self, data: dict[str, Any]) -> WireReply:
        """Read the vectors."""
        return _reply(self.name, data["embeddings"]["float"], self.usage(data), None, data.get("id"))

    def usage(self, data: dict[str, Any]) -> Usage | None:
        """Read what is billed."""
        units = table(table(data.get("meta")).get("billed_units"))
        return Usage(input_total=count(units.get("input_tokens"))) if units else None


#: By the provider's name in model strings. Anthropic has none.
EMBEDDINGS: dict[str, Callable[[], Any]] = {
    "openai": OpenAIEmbeddings,
    "embedded": EmbeddedEmbeddings,
    "gemini": GeminiEmbeddings,
    "cohere": CohereEmbeddings,
}
