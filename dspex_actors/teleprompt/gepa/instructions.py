"""InstructionProposer: writes a new instruction out of the present one and examples with feedback."""

from __future__ import annotations

from typing import Any

from dspex_actors.adapters.base import Adapter
from dspex_actors.adapters.json import JSONAdapter
from dspex_actors.example import Prediction
from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict
from dspex_actors.settings import context
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature


class ProposeInstruction(Signature):
    """You write instructions for an assistant. You are given the instruction that it has, and examples of its work:
    what it was given, what it answered, and feedback on that.

    Write a new instruction. Work out from the inputs what form they have and what the task is, in detail. Take over
    from the answers and the feedback every fact that belongs to the task and that the assistant may not know, since
    it will not see these examples again; and, if it solved the task in a way that holds for other examples too, that
    way.
    """

    current_instruction: str = InputField(desc="the instruction that the assistant has")
    examples_with_feedback: list[dict[str, Any]] = InputField(
        desc="what it was given and answered, and feedback on that"
    )
    new_instruction: str = OutputField(desc="the new instruction for the assistant")


class ShortenInstruction(Signature):
    """Shorten an instruction so that it keeps to the limit. Keep each rule, each condition and each way of doing
    things; leave out what is said twice. Add nothing.
    """

    instruction: str = InputField()
    length_limit: str = InputField()
    shortened_instruction: str = OutputField()


class InstructionProposer(Module):
    """Proposes instructions by asking the reflection LM; GEPA's own proposer.

    Args:
        additional_instructions: what else the new instruction has to heed.
        base_instructions: instead of the question that it asks; inputs and outputs stay.
        max_chars: the longest that a new instruction may be, in characters; a longer one is shortened by the LM once,
            and refused if it is too long still. None: no limit.
        adapter: of its calls; None: JSONAdapter.

    Raises:
        ConfigError: one of them is not usable.
    """

    def __init__(
        self,
        additional_instructions: str | None = None,
        base_instructions: str | None = None,
        max_chars: int | None = None,
        adapter: Adapter | None = None,
    ) -> None:
        """Make the predictors."""
        for name, text in (
            ("additional_instructions", additional_instructions),
            ("base_instructions", base_instructions),
        ):
            if text is not None and not isinstance(text, str):
                raise ConfigValueError(f"{name} is invalid: got {text!r:.100}, expected a text or None")
        if adapter is not None and not isinstance(adapter, Adapter):
            raise ConfigValueError(f"adapter is invalid: got {adapter!r:.100}, expected a dspex.Adapter or None")
        self.max_chars = None if max_chars is None else whole("max_chars", max_chars, 1)
        self.adapter = adapter or JSONAdapter()
        self._more: dict[str, str] = {}
        signature: type[Signature] = ProposeInstruction
        if self.max_chars is not None:
            self._more["length_limit"] = f"at most {self.max_chars} characters"
            signature = signature.prepend("length_limit", InputField(desc="how long the new instruction may be"), str)
        if additional_instructions and additional_instructions.strip():
            self._more["additional_instructions"] = additional_instructions.strip()
            wanted = InputField(desc="what else the new instruction has to heed")
            signature = signature.prepend("additional_instructions", wanted, str)
        if base_instructions and base_instructions.strip():
            signature = signature.with_instructions(base_instructions.strip())
        self.propose = Predict(signature)
        self.compress = None if self.max_chars is None else Predict(ShortenInstruction)

    async def aforward(self, current_instruction: str, examples_with_feedback: list[dict[str, Any]]) -> Prediction:
        """Ask, and return a prediction with `new_instruction`.

        Raises:
            ValueError: the LM proposed nothing, or something too long.
        """
        with context(adapter=self.adapter):
            said = await self.propose.acall(
                **self._more, current_instruction=current_instruction, examples_with_feedback=examples_with_feedback
            )
            text = said.new_instruction.strip()
            if self.compress is not None and self.max_chars is not None and len(text) > self.max_chars:
                limit = self._more["length_limit"]
                text = (await self.compress.acall(instruction=text, length_limit=limit)).shortened_instruction.strip()
                if len(text) > self.max_chars:
                    raise ValueError(
                        f"the instruction has {len(text):,} characters, expected at most {self.max_chars:,}"
                    )
        if not text:
            raise ValueError("the reflection LM proposed an empty instruction")
        return Prediction(new_instruction=text)
