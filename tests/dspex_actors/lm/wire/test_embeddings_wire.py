"""Embeddings on the wire: what is asked, and what is read of answers, also of wrong ones."""

import base64
import json
import struct

import pytest

from dspex_actors.errors import InvalidRequest, LMError
from dspex_actors.lm.content.vectors import Vectors
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire.embeddings import CohereEmbeddings, GeminiEmbeddings, OpenAIEmbeddings
from dspex_actors.lm.wire.exchange import RawReply

TEXTS = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
ROWS = [[0.5, -1.0, 2.0], [1.0, 0.0, 0.25]]


def packed(row):
    return struct.pack(f"<{len(row)}f", *row)


WHOLE = Vectors(b"".join(map(packed, ROWS)), 3)

OPENAI = {
    "object": "list",
    "data": [{"object": "embedding", "index": at, "embedding": row} for at, row in enumerate(ROWS)],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 2, "total_tokens": 2},
}
CODED = {
    **OPENAI,
    "data": [
        {"object": "embedding", "index": at, "embedding": base64.b64encode(packed(row)).decode()}
        for at, row in reversed(list(enumerate(ROWS)))
    ],
}
GEMINI = {"embeddings": [{"values": row} for row in ROWS]}
COHERE = {"id": "x", "embeddings": {"float": ROWS}, "meta": {"billed_units": {"input_tokens": 2}}}
ALL = [
    (OpenAIEmbeddings(), OPENAI),
    (OpenAIEmbeddings(), CODED),
    (GeminiEmbeddings(), GEMINI),
    (CohereEmbeddings(), COHERE),
]


def read(provider, data):
    return provider.read(RawReply(200, {}, json.dumps(data).encode()), 0.0)


@pytest.mark.parametrize(("provider", "data"), ALL)
def test_vectors_are_read_in_the_order_of_the_texts(provider, data):
    reply = read(provider, data)
    assert reply.parts == (WHOLE,)
    assert Vectors.from_plain(json.loads(json.dumps(WHOLE.to_plain()))) == WHOLE
    assert reply.usage == (None if data is GEMINI else Usage(input_total=2))


@pytest.mark.parametrize(
    ("provider", "path", "body"),
    [
        (
            OpenAIEmbeddings(),
            "/embeddings",
            {"model": "m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 3},
        ),
        (
            GeminiEmbeddings(),
            "/v1beta/models/m:batchEmbedContents",
            {
                "requests": [
                    {"model": "models/m", "content": {"parts": [{"text": text}]}, "outputDimensionality": 3}
                    for text in "ab"
                ]
            },
        ),
        (
            CohereEmbeddings(),
            "/v2/embed",
            {
                "model": "m",
                "texts": ["a", "b"],
                "input_type": "search_document",
                "embedding_types": ["float"],
                "output_dimension": 3,
            },
        ),
    ],
)
def test_what_is_asked(provider, path, body):
    request = provider.build("m", TEXTS, {"dimensions": 3})
    assert request.path == path
    assert json.loads(request.body) == body


def test_only_texts_have_embeddings():
    with pytest.raises(InvalidRequest, match="only texts have embeddings"):
        OpenAIEmbeddings().build("m", [{"role": "user", "content": [{"type": "image_url"}]}], {})


@pytest.mark.parametrize("provider", [provider for provider, _ in ALL[1:]])
@pytest.mark.parametrize(
    "rows",
    [[], [[1.0], [1.0, 2.0]], [[]], ["!!"], ["AAA="], [["x"]], [[float("inf")]], [None], None, 5, [{}], {"a": 1}],
)
def test_what_is_no_vectors_is_an_error_of_ours(provider, rows):
    data = {
        "openai": {"data": [{"index": 0, "embedding": row} for row in rows] if isinstance(rows, list) else rows},
        "gemini": {"embeddings": [{"values": row} for row in rows] if isinstance(rows, list) else rows},
        "cohere": {"embeddings": {"float": rows}},
    }[provider.name]
    with pytest.raises(LMError) as error:
        read(provider, data)
    assert "\n" not in str(error.value)
