"""What an inference gives: a Prediction that knows how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from dspex_actors.ecosystem.inference.messages import Answer
from dspex_actors.example import Example, Prediction
from dspex_actors.foundation.codec import unpack


@dataclass(frozen=True, slots=True)
class InferenceInfo:
    """How an inference came about.

    Args:
        skipped: roles of the members that were not there for it: nothing was validated, processed, looked up.
        is_cached: it was answered by the cache.
        is_shared: another inference that was under way had the same inputs: this is its answer.
        warnings: what the validator changed.
        latency: seconds that the caller waited.
        usage: tokens by kind, of the LM calls that were made for it; where it is shared none: they were paid once.
        cost: USD; None: unknown.
        asked: requests to LMs.
        version: of the module that has answered; 0: it is none.
    """

    skipped: tuple[str, ...] = ()
    is_cached: bool = False
    is_shared: bool = False
    warnings: tuple[str, ...] = ()
    latency: float = 0.0
    usage: Mapping[str, Any] = field(default_factory=dict)
    cost: float | None = None
    asked: int = 0
    version: int = 0


class InferredPrediction(Prediction):
    """A Prediction, and beside its fields `inference` and `skipped`; a field of such a name is reached by item."""

    __slots__ = ("_info",)

    _info: InferenceInfo

    @classmethod
    def of(cls, answer: Answer, latency: float) -> Self:
        """Return the prediction of an answer."""
        made = cls(unpack(answer.prediction or b"\x80", objects="try"))
        made._info = InferenceInfo(
            tuple(answer.skipped),
            answer.is_cached,
            answer.is_shared,
            tuple(answer.warnings),
            latency,
            answer.usage,
            answer.cost,
            answer.asked,
            answer.version,
        )
        return made

    def __init__(self, base: Example | Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """Make one from fields, about which nothing is known."""
        super().__init__(base, **fields)
        self._info = InferenceInfo()

    @property
    def inference(self) -> InferenceInfo:
        """How it came about."""
        return self._info

    @property
    def skipped(self) -> tuple[str, ...]:
        """Roles of the members that were not there for it."""
        return self._info.skipped

    def copy(self, **fields: Any) -> Self:
        """Return a copy with `fields` set."""
        twin = super().copy(**fields)
        twin._info = self._info
        return twin
