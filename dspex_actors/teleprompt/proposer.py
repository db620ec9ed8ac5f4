"""Proposer: asks one question several times, for answers that differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_actors.example import Prediction
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict
from dspex_actors.signatures.signature import Signature

#: The input that tells the calls apart; no predictor is given it.
ROLLOUT = "rollout"


class Proposer(Module):
    """A predictor whose calls differ by a number (`rollout_id`), so that a cache has an answer for each.

    Args:
        signature: of the question.
        **config: parameters of every LM call.
    """

    def __init__(self, signature: type[Signature], **config: Any) -> None:
        """Make the predictor."""
        self.predict = Predict(signature, **config)

    def forward(self, rollout: int, **inputs: Any) -> Prediction:
        """Ask."""
        return self.predict(**inputs, config={"rollout_id": rollout})

    async def aforward(self, rollout: int, **inputs: Any) -> Prediction:
        """Ask."""
        return await self.predict.acall(**inputs, config={"rollout_id": rollout})

    @staticmethod
    def rows(inputs: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
        """Return the inputs of so many calls."""
        return [{**inputs, ROLLOUT: number} for number in range(count)]
