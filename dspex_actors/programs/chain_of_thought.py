"""ChainOfThought: Predict that lets the model think before it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from dspex_actors.example import Prediction
from dspex_actors.programs import saving
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict
from dspex_actors.programs.recipes import make_as, recipe_of
from dspex_actors.signatures.fields import OutputField
from dspex_actors.signatures.signature import Signature, make_signature

_REASONING = "reasoning"


class ChainOfThought(Module):
    """Ask for the signature's outputs with a `reasoning` text before them.

    Args:
        signature: a string, a Signature class, or a dict of fields.
        rationale_field: another field in place of `reasoning`'s.
        rationale_field_type: its type, where the field does not say it.
        **config: parameters of every LM call.
    """

    def __init__(
        self,
        signature: str | type[Signature] | Mapping[str, Any],
        rationale_field: Any = None,
        rationale_field_type: type = str,
        **config: Any,
    ) -> None:
        """Make the program; its one predictor is `predict`."""
        field = OutputField() if rationale_field is None else rationale_field
        kind = field.annotation if isinstance(field, FieldInfo) and field.annotation else rationale_field_type
        extended = make_signature(signature).prepend(_REASONING, field, kind)
        self.predict = Predict(extended, **config)

    def forward(self, /, **kwargs: Any) -> Prediction:
        """Run the predictor and wait."""
        return self.predict(**kwargs)

    async def aforward(self, /, **kwargs: Any) -> Prediction:
        """Run the predictor."""
        return await self.predict.acall(**kwargs)

    def _describe(self) -> dict[str, Any] | None:
        if type(self) is not ChainOfThought:
            return None
        return saving.described("ChainOfThought", self.predict.signature.delete(_REASONING))

    def _recipe(self) -> dict[str, Any]:
        return {"predict": recipe_of(self.predict)}

    @classmethod
    def _of_recipe(cls, recipe: Mapping[str, Any]) -> ChainOfThought:
        program = cls("question -> answer")
        program.predict = make_as(Predict, recipe["predict"])
        return program
