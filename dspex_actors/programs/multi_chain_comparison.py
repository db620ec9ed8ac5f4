"""`MultiChainComparison`: an LM compares several attempts and gives the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.config_errors import ConfigKeyError, ConfigTypeError, ConfigValueError
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict
from dspex_actors.programs.recipes import make_as, recipe_of
from dspex_actors.programs.steps import Ask, Steps
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature, make_signature
from dspex_actors.types.reasoning import Reasoning


class MultiChainComparison(Module):
    """Show the LM several attempts, each with its reasoning, and ask for a `rationale` and the outputs.

        attempts = [think(question=question, config={"rollout_id": n, "temperature": 1.0}) for n in range(3)]
        dspex.MultiChainComparison("question -> answer", M=3)(attempts, question=question).answer

    Of an attempt the first line of its `rationale` or `reasoning` is shown, and the first line of the signature's last
    output.

    Args:
        signature: what the attempts were made for.
        M: how many there are.
        temperature: of the call.
        **config: other parameters of it.

    Raises:
        ConfigError: the signature has no output, or M is no number.
    """

    def __init__(
        self,
        signature: str | type[Signature] | Mapping[str, Any],
        M: int = 3,  # noqa: N803 - DSPy's name
        temperature: float = 0.7,
        **config: Any,
    ) -> None:
        """Make the program; its one predictor is `predict`."""
        self.M = whole("M", M, 1)
        made = make_signature(signature)
        if not made.output_fields:
            raise ConfigValueError(f"signature is invalid: {made.__name__} has no output to compare")
        self.last_key = list(made.output_fields)[-1]
        for number in range(1, self.M + 1):
            field = InputField(prefix=f"Student Attempt #{number}:", desc="how somebody reasoned, and what came of it")
            made = made.append(f"reasoning_attempt_{number}", field)
        field = OutputField(prefix="Accurate Reasoning:", desc="what is right in the attempts, what is wrong, and why")
        self.predict = Predict(made.prepend("rationale", field), temperature=temperature, **config)

    def steps(self, completions: Iterable[Any], **kwargs: Any) -> Steps:
        """Show the attempts, and ask.

        Args:
            completions: predictions, dicts, or a prediction's `completions`.
            **kwargs: the signature's inputs.

        Raises:
            ConfigValueError: there are not M of them, or one lacks its reasoning or its answer.
        """
        if isinstance(completions, str | Mapping) or not isinstance(completions, Iterable):
            raise ConfigTypeError(f"completions is invalid: got {completions!r:.80}, expected a list of predictions")
        attempts = [self._told(place, one) for place, one in enumerate(completions)]
        if len(attempts) != self.M:
            raise ConfigValueError(f"{len(attempts)} attempts were given, and M={self.M} are compared: make it with M=")
        shown = {f"reasoning_attempt_{number}": attempt for number, attempt in enumerate(attempts, 1)}
        return (yield Ask(self.predict, **{**shown, **kwargs}))

    def _recipe(self) -> dict[str, Any]:
        return {"M": self.M, "last_key": self.last_key, "predict": recipe_of(self.predict)}

    @classmethod
    def _of_recipe(cls, recipe: Mapping[str, Any]) -> MultiChainComparison:
        program = cls("question -> answer", M=recipe["M"])
        program.predict = make_as(Predict, recipe["predict"])
        program.last_key = recipe["last_key"]
        if program.last_key not in list(program.predict.signature.output_fields):
            raise ConfigValueError(f"got the output {program.last_key!r:.80}, which its signature has not")
        return program

    def _told(self, place: int, attempt: Any) -> str:
        if not hasattr(attempt, "get"):
            raise ConfigTypeError(
                f"completions[{place}] is invalid: got {attempt!r:.80}, expected a prediction or a dict"
            )
        reasoning = attempt.get("rationale", attempt.get("reasoning"))
        if not isinstance(reasoning, str | Reasoning) or self.last_key not in attempt:
            raise (ConfigValueError if self.last_key in attempt else ConfigKeyError)(
                f"completions[{place}] is invalid: expected a text `rationale` or `reasoning`, and `{self.last_key}`; "
                f"it has {', '.join(attempt.keys())}"
            )
        return f"«{_first_line(reasoning)} So I would say, but am not certain: {_first_line(attempt[self.last_key])}»"


def _first_line(value: Any) -> str:
    return str(value).strip().split("\n")[0].strip()
