"""OpenAI's ``POST /v1/embeddings``."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

from dspex_actors.embedded.vectors import DIMENSIONS, MOST_DIMENSIONS, vector
from dspex_actors.embedded.wire.base import Answer, Call, RequestError, model_of, whole
from dspex_actors.embedded.wire.openai import OpenAI

#: As OpenAI: texts in one request at most.
_MOST_TEXTS = 2048


class OpenAIEmbeddings(OpenAI):
    """The embeddings format."""

    def read(self, body: dict[str, Any], headers: Mapping[str, str], model: str) -> Call:
        """Read an embeddings request; token lists are refused, since they are of another model's tokens."""
        texts = body.get("input")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise RequestError("input: expected a text, or a list of texts that are not empty", "input")
        if len(texts) > _MOST_TEXTS:
            raise RequestError(f"input: expected at most {_MOST_TEXTS} texts, got {len(texts)}", "input")
        form = body.get("encoding_format", "float")
        if form not in ("float", "base64"):
            raise RequestError(f"encoding_format: expected float or base64, got {str(form)[:40]!r}", "encoding_format")
        dimensions = whole(body, "dimensions", 1) or DIMENSIONS
        if dimensions > MOST_DIMENSIONS:
            raise RequestError(f"dimensions: expected at most {MOST_DIMENSIONS}, got {dimensions}", "dimensions")
        return Call(model_of(body), [("user", text) for text in texts], choices=0, vectors=(form, dimensions))

    def write(self, call: Call, answer: Answer, request_id: str, now: float) -> dict[str, Any]:
        """Return a vector per text."""
        assert call.vectors is not None
        form, dimensions = call.vectors
        rows = [vector(text, dimensions) for _, text in call.messages]
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": at, "embedding": _packed(row) if form == "base64" else row}
                for at, row in enumerate(rows)
            ],
            "model": call.model,
            "usage": {"prompt_tokens": answer.input_tokens, "total_tokens": answer.input_tokens},
        }


def _packed(row: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode()
