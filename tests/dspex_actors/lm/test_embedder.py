"""`Embedder` without a node: functions of the user's own, batches, and what is refused."""

import asyncio

import numpy as np
import pytest

import dspex_actors as dspex
from dspex_actors.lm.backend import through
from dspex_actors.lm.content.vectors import Vectors
from dspex_actors.lm.reply import LMReply


def lengths(texts, factor=1):
    return [[len(text) * factor, 1.0] for text in texts]


async def lengths_async(texts, factor=1):
    return np.array(lengths(texts, factor))


@pytest.mark.parametrize("function", [lengths, lengths_async, lambda texts, factor=1: np.array(lengths(texts, factor))])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_function_of_ones_own(function, way):
    embed = dspex.Embedder(function, batch_size=2, factor=2)

    def ask(*arguments, **options):
        return embed(*arguments, **options) if way == "sync" else asyncio.run(embed.acall(*arguments, **options))

    assert ask(["a", "bb", "ccc"]).tolist() == [[2, 1], [4, 1], [6, 1]]
    assert ask("bb").tolist() == [4, 1]
    assert ask(iter(["a"]), factor=3).tolist() == [[3, 1]]
    assert ask([]).shape == (0, 0)
    assert ask(["a"]).dtype == np.float32


def test_batches_are_as_large_as_asked_for():
    sizes = []

    def count(texts):
        sizes.append(len(texts))
        return lengths(texts)

    dspex.Embedder(count)(["x"] * 450)
    dspex.Embedder(count)(["x"] * 5, batch_size=4)
    assert sizes == [200, 200, 50, 4, 1]


@pytest.mark.parametrize(
    "answer", [None, [], [[1.0]], [[1.0], [2.0], [3.0]], [1.0, 2.0], "x", [["a"], ["b"]], [[1.0], [1.0, 2.0]], {"a": 1}]
)
def test_what_a_function_answers_wrongly_is_said_in_one_line(answer):
    def strange(texts):
        return answer

    with pytest.raises(dspex.ConfigError, match="strange answered with") as error:
        dspex.Embedder(strange)(["a", "b"])
    assert "\n" not in str(error.value)


def test_vectors_of_two_lengths_are_refused():
    with pytest.raises(dspex.ConfigError, match="different lengths"):
        dspex.Embedder(lambda texts: [[0.0] * len(texts[0])], batch_size=1)(["a", "bb"])


@pytest.mark.parametrize("inputs", [[1], [None], 5, None, [b"x"], ["a", ["b"]]])
def test_what_is_no_text(inputs):
    with pytest.raises(dspex.ConfigError, match=r"inputs\[\d\] is invalid"):
        dspex.Embedder(lengths)(inputs)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "anthropic/claude"}, "anthropic has no embeddings"),
        ({"model": 5}, "provider/model or a function"),
        ({"model": "gpt"}, "model"),
        ({"model": lengths, "batch_size": 0}, "batch_size"),
        ({"model": lengths, "batch_size": True}, "batch_size"),
        ({"model": lengths, "caching": "yes"}, "caching"),
        ({"model": "openai/e", "rpm": -1}, "rpm"),
    ],
)
def test_settings_that_are_refused(settings, words):
    with pytest.raises(dspex.ConfigError, match=words):
        dspex.Embedder(**settings)


def test_a_model_type_that_a_provider_has_not():
    with pytest.raises(dspex.ConfigError, match="'chat', which anthropic has"):
        dspex.LM("anthropic/claude", model_type="embeddings")


class Counting:
    """A backend that answers with the lengths of texts, and fails for one of them."""

    def __init__(self):
        self.requests = []

    def complete(self, request):
        self.requests.append(request)
        texts = [message["content"] for message in request.messages]
        if "bad" in texts:
            raise dspex.LMError("no")
        rows = np.array(lengths(texts), "<f4")
        return LMReply("", content=(Vectors(rows.tobytes(), 2),))

    async def acomplete(self, request):
        await asyncio.sleep(0)
        return self.complete(request)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_providers_model_is_asked_in_batches_in_order(way):
    backend = Counting()
    embed = dspex.Embedder("openai/e", batch_size=2, dimensions=2)
    texts = ["x" * number for number in range(1, 8)]
    with through(backend):
        found = embed(texts, caching=False) if way == "sync" else asyncio.run(embed.acall(texts, caching=False))
        assert embed("xx").tolist() == [2, 1]
    assert found[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    one = backend.requests[0]
    assert (one.lm.model_type, one.params, one.lm.options.cache) == ("embeddings", {"dimensions": 2}, False)
    assert len(backend.requests) == 5


@pytest.mark.parametrize("way", ["sync", "async"])
def test_what_is_not_asked_yet_is_not_paid_when_one_fails(way):
    backend = Counting()
    embed = dspex.Embedder("openai/e", batch_size=1)
    texts = ["bad", *(["x"] * 500)]
    with through(backend), pytest.raises(dspex.LMError):
        embed(texts) if way == "sync" else asyncio.run(embed.acall(texts))
    assert len(backend.requests) < 500
