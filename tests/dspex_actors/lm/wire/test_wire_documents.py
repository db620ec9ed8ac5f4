"""Documents that may be cited: Anthropic's own blocks, texts and files to everybody else."""

import base64

import orjson
import pytest

from dspex_actors import Document
from dspex_actors.errors import InvalidRequest
from dspex_actors.lm.wire import PROVIDERS
from dspex_actors.lm.wire.responses import Responses

PDF = base64.b64encode(b"%PDF-1.4").decode()
TEXT = Document(data="Water boils.", title="Physics", context="a book").format()
FILE = Document(data=PDF, title="p.pdf", media_type="application/pdf").format()
WORDS = "Title: Physics\nContext: a book\n\nWater boils."


def told(provider, parts):
    body = orjson.loads(provider.body("gpt-4o", [{"role": "user", "content": parts}], {"max_tokens": 9}))
    if "contents" in body:
        return body["contents"][0]["parts"]
    return (body.get("messages") or body.get("input"))[0]["content"]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("openai", {"type": "text", "text": WORDS}),
        ("cohere", {"type": "text", "text": WORDS}),
        ("gemini", {"text": WORDS}),
    ],
)
def test_a_document_is_a_text_to_who_has_none(name, part):
    found = told(PROVIDERS[name], TEXT)
    assert found in ([part], WORDS)  # a lone text may stand without its part


def test_a_pdf_is_a_file_to_who_has_none():
    url = f"data:application/pdf;base64,{PDF}"
    assert told(PROVIDERS["openai"], FILE) == [{"type": "file", "file": {"filename": "p.pdf", "file_data": url}}]
    assert told(PROVIDERS["gemini"], FILE) == [{"inlineData": {"mimeType": "application/pdf", "data": PDF}}]
    assert told(Responses(), FILE) == [{"type": "input_file", "filename": "p.pdf", "file_data": url}]
    assert told(Responses(), TEXT) == [{"type": "input_text", "text": WORDS}]
    with pytest.raises(InvalidRequest, match="takes no file"):
        told(PROVIDERS["cohere"], FILE)


def test_anthropic_is_told_the_document():
    assert told(PROVIDERS["anthropic"], TEXT) == TEXT
    assert told(PROVIDERS["anthropic"], FILE) == FILE
