"""The semantic tier of one worker: an answer to nearly the same question, where a program has asked for that.

Only for a text of the user's after instructions, which are the same to the letter; without tools, at temperature 0 or
none. The question's vector is asked for once (many together), compared with those of the scope, and guarded: numbers,
negations and names have to be the same (`cache.guards`).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Any, NamedTuple

import numpy as np

from dspex_actors.cache.nearest import Questions, Scopes, normal
from dspex_actors.cache.place import Place
from dspex_actors.foundation.bridge import in_thread
from dspex_actors.foundation.cache_settings import SemanticSettings
from dspex_actors.foundation.secrets import scrub_data
from dspex_actors.lm.answer_key import question_of
from dspex_actors.lm.request import LMRequest

#: Parameters with which an answer is more than one text, or is meant to be another one each time.
_OTHERS = frozenset({"tools", "tool_choice", "functions", "rollout_id", "n", "logprobs", "modalities", "audio"})
#: More are compared in a thread.
_FEW = 5_000
_MASK = (1 << 63) - 1

_log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """A question that may be nearly the same as another one.

    Args:
        scope: number of all that is not the question.
        text: the question.
        vector: its vector.
    """

    scope: int
    text: str
    vector: np.ndarray


class Likeness:
    """What one program's settings come to.

    Args:
        settings: the program's.
        place: where questions are kept; None: in memory only.
        tenant: whose they are, and its number.
    """

    def __init__(self, settings: SemanticSettings, place: Place | None, tenant: tuple[str, int]) -> None:
        """Begin with no question."""
        self._settings, self._place = settings, place
        self._tenant, self._number = tenant
        self._scopes = Scopes(settings.max_entries)
        self._waiting: list[tuple[str, asyncio.Future[np.ndarray]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: set[str] = set()

    async def asked(self, request: LMRequest) -> Asked | None:
        """Return what a call asks, with its vector; None: it is no call for this."""
        params = request.params
        if request.lm.model_type == "embeddings" or params.get("temperature") or not _OTHERS.isdisjoint(params):
            return None
        found = question_of(request.lm, request.messages, params, self._tenant + "\n" + self._settings.name)
        if found is None or not found[1].strip() or scrub_data(found[1]) != found[1]:
            return None
        try:
            vector = await self._vector(found[1])
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            if why not in self._failed:
                self._failed.add(why)
                _log.warning("the semantic cache has no vector, and the LM is asked: %s", why)
            return None
        return Asked(int.from_bytes(found[0][:8], "big") & _MASK, found[1], vector)

    async def nearest(self, asked: Asked) -> bytes | None:
        """Return the key of a question that may have the same answer; None: there is none."""
        questions = self._scopes.of(asked.scope)
        if self._place is not None and self._place.ready():
            size = asked.vector.nbytes
            rows = self._place.questions(asked.scope, questions.last)
            read = [(number, _key(first, rest), text, vector) for number, first, rest, text, vector in rows]
            questions = self._scopes.take(asked.scope, (row for row in read if len(row[3]) == size))
        look = (asked.text, asked.vector, self._settings.threshold)
        if len(questions) <= _FEW:
            return questions.nearest(*look)
        found: bytes | None = await in_thread(lambda: _copy(questions).nearest(*look), brief=True)
        return found

    def keep(self, asked: Asked, key: bytes) -> None:
        """Keep a question whose answer is kept under a key."""
        if self._place is not None and self._place.ready():
            self._place.put_question(asked.scope, key, self._number, asked.text, asked.vector.tobytes())
        else:
            self._scopes.of(asked.scope).add(asked.text, key, asked.vector)

    async def _vector(self, text: str) -> np.ndarray:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[np.ndarray] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._begin)
        self._waiting.append((text, future))
        return await future

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, []
        task = asyncio.get_running_loop().create_task(self._embed(waiting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _embed(self, waiting: list[tuple[str, asyncio.Future[np.ndarray]]]) -> None:
        texts = list(dict.fromkeys(text for text, _ in waiting))
        try:
            rows = list(await _called(self._settings.embedder, texts))
            if len(rows) != len(texts):
                raise ValueError(f"the embedder gave {len(rows)} vectors for {len(texts)} texts")
            vectors = {text: normal(row) for text, row in zip(texts, rows, strict=True)}
        except BaseException as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))
            if not isinstance(error, Exception):
                raise
            return
        for text, future in waiting:
            if not future.done():
                future.set_result(vectors[text])


async def _called(embedder: Any, texts: list[str]) -> Any:
    if hasattr(embedder, "acall"):
        return await embedder.acall(texts)
    if inspect.iscoroutinefunction(embedder) or inspect.iscoroutinefunction(getattr(embedder, "__call__", None)):  # noqa: B004
        return await embedder(texts)
    return await in_thread(lambda: embedder(texts))


def _copy(questions: Questions) -> Questions:
    """Return what a thread may look through while others come in."""
    twin = Questions(questions.last, list(questions.texts), list(questions.keys))
    twin._rows = questions._rows
    return twin


def _key(first: int, rest: int) -> bytes:
    return first.to_bytes(8, "big", signed=True) + rest.to_bytes(8, "big", signed=True)
