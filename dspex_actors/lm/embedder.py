"""`Embedder`: texts to vectors, by a provider's model or a function of the user's own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.bridge import in_background_loop, in_thread
from dspex_actors.foundation.checks import is_whole
from dspex_actors.lm import settings as check
from dspex_actors.lm.content.vectors import Vectors
from dspex_actors.lm.lm import LM
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.wire.embeddings import EMBEDDINGS

if TYPE_CHECKING:
    import numpy as np

#: Requests for batches of one call that are under way at the same time.
BATCHES_AT_ONCE = 16


class Embedder:
    """Turns texts into vectors (DSPy's `Embedder`).

        embed = dspex.Embedder("openai/text-embedding-3-small", dimensions=256)
        embed(["a refund", "a bug"]).shape      # (2, 256)
        embed("a refund").shape                 # (256,)

    A provider's model is asked through the connected node like any LM: paced, retried, cached, counted. A function is
    called where the program runs.

    Args:
        model: `provider/model` (openai, gemini, cohere, or `embedded/nearest`, whose vectors compare words), or a
            function, sync or async, that takes a list of texts and returns a row of numbers for each.
        batch_size: texts in one request, or one call of the function.
        caching: whether an earlier answer of a provider may be used.
        kwargs: of a provider's model: settings of `dspex.LM` (base_url, api_key, rpm, timeout, ...) and parameters
            (dimensions, task_type, input_type, ...); of a function: what it takes beside the texts.

    Raises:
        ConfigError: the model has no embeddings, or a setting is not usable.
    """

    BATCH_SIZE: ClassVar[int] = 200

    def __init__(
        self,
        model: str | Callable[..., Any],
        batch_size: int = BATCH_SIZE,
        caching: bool = True,
        **kwargs: Any,
    ) -> None:
        """Check the settings; nothing is asked yet."""
        self.model = model
        self.batch_size = _batch_size(batch_size)
        self.caching = check.flag("caching", caching)
        self.default_kwargs = kwargs
        self._lm: LM | None = None
        if isinstance(model, str):
            provider, _ = check.model_string(model)
            if provider not in EMBEDDINGS:
                known = ", ".join(sorted(EMBEDDINGS))
                raise ConfigError(f"model is invalid: {provider} has no embeddings; expected one of {known}")
            self._lm = LM(model, **{"model_type": "embeddings", "cache": caching, **kwargs})
        elif not callable(model):
            raise ConfigError(f"model is invalid: got {check.shown(model)}, expected provider/model or a function")

    def __call__(
        self,
        inputs: str | Iterable[str],
        batch_size: int | None = None,
        caching: bool | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Return the vectors of some texts, and wait for them.

        Args:
            inputs: a text, or several.
            batch_size: for this call.
            caching: for this call.
            kwargs: for this call, over those of the constructor.

        Returns:
            32-bit floats: a row per text, in their order; of a single text its row alone.

        Raises:
            ConfigError: an input is no text; the function answers with something that is no row per text.
            LMError: the model did not answer.
        """
        batches = self._batches(inputs, batch_size)
        options = self._options(caching, kwargs)
        if self._lm is None:
            answers = [self._called(batch, options) for batch in batches]
        elif len(batches) == 1:
            answers = [self._lm(_messages(batches[0]), **options)]
        else:
            answers = self._asked_at_once(self._lm, batches, options)
        return self._joined(inputs, batches, answers)

    async def acall(
        self,
        inputs: str | Iterable[str],
        batch_size: int | None = None,
        caching: bool | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Do what a call does, from inside an event loop."""
        batches = self._batches(inputs, batch_size)
        options = self._options(caching, kwargs)
        if self._lm is None:
            # One after the other: a model in this process need not bear more at once.
            answers = [await self._acalled(batch, options) for batch in batches]
        else:
            answers = await self._asked(self._lm, batches, options)
        return self._joined(inputs, batches, answers)

    def _batches(self, inputs: str | Iterable[str], batch_size: int | None) -> list[list[str]]:
        texts = [inputs] if isinstance(inputs, str) else _texts(inputs)
        size = self.batch_size if batch_size is None else _batch_size(batch_size)
        return [texts[at : at + size] for at in range(0, len(texts), size)]

    def _options(self, caching: bool | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        if self._lm is None:
            return {**self.default_kwargs, **kwargs}
        return kwargs if caching is None else {**kwargs, "cache": check.flag("caching", caching)}

    def _called(self, batch: list[str], options: dict[str, Any]) -> Any:
        function: Any = self.model
        if _is_async(function):
            return in_background_loop(lambda: function(batch, **options), self._name)
        return function(batch, **options)

    async def _acalled(self, batch: list[str], options: dict[str, Any]) -> Any:
        function: Any = self.model
        return await (
            function(batch, **options) if _is_async(function) else in_thread(lambda: function(batch, **options))
        )

    def _asked_at_once(self, lm: LM, batches: list[list[str]], options: dict[str, Any]) -> list[LMReply]:
        with ThreadPoolExecutor(min(BATCHES_AT_ONCE, len(batches)), "dspex embedder") as pool:
            asked = [pool.submit(copy_context().run, partial(lm, _messages(batch), **options)) for batch in batches]
            try:
                return [each.result() for each in asked]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # what is not asked yet is not paid
                raise

    async def _asked(self, lm: LM, batches: list[list[str]], options: dict[str, Any]) -> list[LMReply]:
        places = asyncio.Semaphore(BATCHES_AT_ONCE)

        async def ask(batch: list[str]) -> LMReply:
            async with places:
                return await lm.acall(_messages(batch), **options)

        tasks = [asyncio.ensure_future(ask(batch)) for batch in batches]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            raise

    def _joined(self, inputs: Any, batches: list[list[str]], answers: list[Any]) -> np.ndarray:
        import numpy as np

        if not batches:
            return np.zeros((0, 0), np.float32)
        found = [self._rows(batch, answer) for batch, answer in zip(batches, answers, strict=True)]
        if len({rows.shape[1] for rows in found}) != 1:
            raise ConfigError(f"{self._name} answered with vectors of different lengths")
        whole: np.ndarray = np.concatenate(found)
        return whole[0] if isinstance(inputs, str) else whole

    def _rows(self, batch: list[str], answer: Any) -> np.ndarray:
        import numpy as np

        if self._lm is not None:
            vectors = next(part for part in answer.parts if isinstance(part, Vectors))
            rows = np.frombuffer(vectors.data, "<f4").astype(np.float32, copy=False).reshape(-1, vectors.dimensions)
        else:
            try:
                rows = np.asarray(answer, dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{self._name} answered with no rows of numbers: {error}") from None
        if rows.ndim != 2 or len(rows) != len(batch):
            raise ConfigError(
                f"{self._name} answered with an array of shape {rows.shape}, expected {len(batch)} rows, one per text"
            )
        return rows

    @property
    def _name(self) -> str:
        return self.model if isinstance(self.model, str) else getattr(self.model, "__name__", type(self.model).__name__)

    def __repr__(self) -> str:
        """Show the model."""
        return f"Embedder({self._name!r}, batch_size={self.batch_size})"


def _messages(batch: list[str]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in batch]


def _is_async(function: Any) -> bool:
    called = getattr(type(function), "__call__", None)  # noqa: B004 - of an object it is the method that says it
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def _texts(inputs: Any) -> list[str]:
    texts = list(inputs) if isinstance(inputs, Iterable) else [inputs]
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise ConfigError(f"inputs[{at}] is invalid: got {check.shown(text)}, expected a text")
    return texts


def _batch_size(value: Any) -> int:
    if not is_whole(value, 1):
        raise ConfigError(f"batch_size is invalid: got {check.shown(value)}, expected a whole number, 1 or more")
    return int(value)
