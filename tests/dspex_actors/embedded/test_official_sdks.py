"""The providers' own SDKs as clients of `dspex provider serve`: each is skipped where it is not installed.

They are no dependency: `pip install openai anthropic google-genai cohere`, and run this file.
"""

import struct
import subprocess
import sys

import pytest
import warm

ASK = "Say hello."


class Served:
    """A server in a process of its own."""

    def __init__(self, *options):
        command = [sys.executable, "-m", "dspex_actors.embedded", "--port", "0", *options]
        self.process = warm.Popen(command, stdout=subprocess.PIPE, text=True)
        words = self.process.stdout.readline().split()
        self.url = words[words.index("openai") + 1].removesuffix("/v1")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def served():
    server = Served("--answer", "Hello to all of you.")
    yield server
    server.close()


@pytest.fixture(scope="module")
def limited():
    server = Served("--rpm", "1")
    yield server
    server.close()


# --- openai -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def openai():
    return pytest.importorskip("openai")


def openai_client(openai, server):
    return openai.OpenAI(api_key="sk-test", base_url=f"{server.url}/v1", max_retries=0)


def test_openai_chat(openai, served):
    client = openai_client(openai, served)
    reply = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": ASK}])
    assert reply.choices[0].message.content == "Hello to all of you."
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0


def test_openai_stream(openai, served):
    stream = openai_client(openai, served).chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": ASK}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == "Hello to all of you."
    assert len([text for text in texts if text]) > 1
    assert chunks[-1].usage.total_tokens > 0


def test_openai_responses(openai, served):
    reply = openai_client(openai, served).responses.create(model="gpt-4o-mini", input=ASK)
    assert reply.output_text == "Hello to all of you."
    assert reply.status == "completed"


def test_openai_responses_stream(openai, served):
    with openai_client(openai, served).responses.stream(model="gpt-4o-mini", input=ASK) as stream:
        texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(texts) == final.output_text == "Hello to all of you."


@pytest.mark.parametrize("form", ["float", "base64"])
def test_openai_embeddings(openai, served, form):
    client = openai_client(openai, served)
    texts = ["a refund for my order", "the order is refunded", "fish swim"]
    reply = client.embeddings.create(model="text-embedding-3-small", input=texts, dimensions=64, encoding_format=form)
    rows = [row.embedding for row in reply.data]
    if form == "base64" and isinstance(rows[0], str):
        import base64

        rows = [struct.unpack("<64f", base64.b64decode(row)) for row in rows]
    assert [len(row) for row in rows] == [64] * 3
    assert all(abs(sum(value * value for value in row) - 1) < 1e-3 for row in rows)

    def alike(one, other):
        return sum(a * b for a, b in zip(rows[one], rows[other], strict=True))

    assert alike(0, 1) > alike(0, 2)


def test_openai_errors(openai, served, limited):
    client = openai_client(openai, limited)
    with pytest.raises(openai.RateLimitError) as refused:
        ask_often(client)
    assert refused.value.response.headers["retry-after"]
    with pytest.raises(openai.BadRequestError):
        openai_client(openai, served).embeddings.create(model="m", input=[])


def ask_often(client):
    for _ in range(5):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": ASK}])


# --- anthropic --------------------------------------------------------------------------------------------------------


@pytest.fixture
def claude(served):
    anthropic = pytest.importorskip("anthropic")
    return anthropic.Anthropic(api_key="sk-test", base_url=served.url, max_retries=0)


def test_anthropic_messages(claude):
    reply = claude.messages.create(model="claude", max_tokens=64, messages=[{"role": "user", "content": ASK}])
    assert reply.content[0].text == "Hello to all of you."
    assert (reply.stop_reason, reply.usage.output_tokens > 0) == ("end_turn", True)


def test_anthropic_stream(claude):
    with claude.messages.stream(model="claude", max_tokens=64, messages=[{"role": "user", "content": ASK}]) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(texts) == final.content[0].text == "Hello to all of you."
    assert len(texts) > 1
    assert (final.stop_reason, final.usage.output_tokens > 0) == ("end_turn", True)


# --- gemini -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def gemini(served):
    genai = pytest.importorskip("google.genai")
    return genai.Client(api_key="sk-test", http_options={"base_url": served.url})


def test_gemini_generate(gemini):
    reply = gemini.models.generate_content(model="gemini-2.5-flash", contents=ASK)
    assert reply.text == "Hello to all of you."
    assert reply.candidates[0].finish_reason == "STOP"
    assert reply.usage_metadata.total_token_count > 0


def test_gemini_stream(gemini):
    chunks = list(gemini.models.generate_content_stream(model="gemini-2.5-flash", contents=ASK))
    assert "".join(chunk.text or "" for chunk in chunks) == "Hello to all of you."
    assert len(chunks) > 1
    assert chunks[-1].usage_metadata.total_token_count > 0


# --- cohere -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cohere(served):
    module = pytest.importorskip("cohere")
    return module.ClientV2(api_key="sk-test", base_url=served.url)


def test_cohere_chat(cohere):
    reply = cohere.chat(model="command-a-03-2025", messages=[{"role": "user", "content": ASK}])
    assert reply.message.content[0].text == "Hello to all of you."
    assert reply.finish_reason == "COMPLETE"


def test_cohere_stream(cohere):
    events = list(cohere.chat_stream(model="command-a-03-2025", messages=[{"role": "user", "content": ASK}]))
    texts = [event.delta.message.content.text for event in events if event.type == "content-delta"]
    assert "".join(texts) == "Hello to all of you."
    assert len(texts) > 1
    assert events[-1].type == "message-end"
