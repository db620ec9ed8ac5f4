"""`KNN`: the examples that are nearest to some inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from dspex_actors.example import Example
from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.programs.carrying import acarry, carry
from dspex_actors.programs.steps import Ask, Steps

if TYPE_CHECKING:
    import numpy as np


class KNN:
    """Finds the examples of a trainset whose inputs are most like some others, by the product of their vectors.

        nearest = dspex.KNN(k=3, trainset=trainset, vectorizer=dspex.Embedder("openai/text-embedding-3-small"))
        nearest(question="How long is the Nile?")

    An example is told to the vectorizer as `name: value | name: value`, its inputs in their order. Its vectors are
    computed once, here.

    Args:
        k: how many are found; of a smaller trainset all.
        trainset: Examples with their inputs marked.
        vectorizer: a `dspex.Embedder`, or a function, sync or async, that takes a list of texts and returns a row of
            numbers for each.

    Raises:
        ConfigError: an example has no inputs, or the vectorizer answers with something else.
    """

    def __init__(self, k: int, trainset: Iterable[Example], vectorizer: Callable[..., Any]) -> None:
        """Compute the vectors of the trainset."""
        self.k = whole("k", k, 1)
        self.trainset = list(trainset)
        if not callable(vectorizer):
            raise ConfigTypeError(
                f"vectorizer is invalid: got {vectorizer!r:.80}, expected dspex.Embedder(...) or a function of texts"
            )
        if not self.trainset:
            raise ConfigValueError("trainset is invalid: got no example, expected at least one")
        self.embedding = vectorizer
        texts = [_told(_inputs(place, example)) for place, example in enumerate(self.trainset)]
        self.trainset_vectors: np.ndarray = carry(self._vectors(texts))

    def __call__(self, **kwargs: Any) -> list[Example]:
        """Return the nearest examples, the nearest first; of equally near ones the later first, as DSPy does.

        Args:
            **kwargs: the inputs.
        """
        nearest: list[Example] = carry(self.steps(**kwargs))
        return nearest

    async def acall(self, **kwargs: Any) -> list[Example]:
        """Do what a call does, from inside an event loop."""
        nearest: list[Example] = await acarry(self.steps(**kwargs))
        return nearest

    def steps(self, **kwargs: Any) -> Steps:
        """Have the inputs' vector made, and compare."""
        vector = (yield from self._vectors([_told(kwargs)]))[0]
        if vector.shape[0] != self.trainset_vectors.shape[1]:
            raise ConfigValueError(
                f"the vectorizer gives {vector.shape[0]} numbers now, and gave {self.trainset_vectors.shape[1]} before"
            )
        order = (self.trainset_vectors @ vector).argsort(kind="stable")[::-1]
        return [self.trainset[place] for place in order[: self.k]]

    def _vectors(self, texts: list[str]) -> Steps:
        import numpy as np  # here: importing a program needs none of it

        answer = yield Ask(self.embedding, texts)
        try:
            rows = np.asarray(answer, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ConfigValueError(f"the vectorizer answered with no rows of numbers: {error}") from None
        if rows.ndim != 2 or len(rows) != len(texts):
            raise ConfigValueError(
                f"the vectorizer answered with an array of shape {rows.shape}, expected {len(texts)} rows, one per text"
            )
        if not np.isfinite(rows).all():
            raise ConfigValueError("the vectorizer answered with NaN or infinity, expected numbers")
        return rows


def _inputs(place: int, example: Any) -> dict[str, Any]:
    if not isinstance(example, Example):
        raise ConfigTypeError(f"trainset[{place}] is invalid: got {example!r:.80}, expected an Example")
    return dict(example.inputs().items())


def _told(inputs: dict[str, Any]) -> str:
    return " | ".join(f"{name}: {value}" for name, value in inputs.items())
