"""`MultiHopQA`: a question becomes smaller ones, whose answers make its own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from dspex_actors.example import Prediction
from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.foundation.events.kinds import QuestionDecomposed, SubQuestionAnswered
from dspex_actors.foundation.events.outlet import emit, wanted
from dspex_actors.foundation.ids import new_id
from dspex_actors.foundation.operation import operation
from dspex_actors.programs.chain_of_thought import ChainOfThought
from dspex_actors.programs.module import Module, ways_of
from dspex_actors.programs.predict import Predict
from dspex_actors.programs.recipes import make, recipe_of, signature_of, spec_of
from dspex_actors.programs.steps import Ask, Parallel, Steps
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature, SignatureMeta, make_signature

#: What it adds to the signature's outputs.
_OWN_OUTPUTS = ("sub_questions", "hops")
#: What a hop is given.
_HOP_INPUTS = ("question", "context")


class MultiHopQA(Module):
    """Answer a question that takes several steps: decompose it, answer each part, put the answers together.

        qa = dspex.MultiHopQA("question -> answer", max_hops=4)
        found = qa(question="In which country was the director of Solaris born?")
        found.answer, [(hop["question"], hop["answer"]) for hop in found.hops]

    1. `decompose` makes `sub_questions` of the inputs.
    2. `hop` answers one after the other, and is given what the ones before gave; or, with `sequential=False`, all at
       once. Each is an operation with a correlation id of its own, so that its trace can be looked at alone
       (`dspex trace`); events: `question.decomposed`, `question.sub_question`.
    3. `synthesize` gives the signature's outputs from the findings.

    Args:
        signature: what is asked and answered.
        hop: the program that answers a sub-question: inputs `question` and `context` (a list of findings), output
            `answer`; a ReAct with a search tool, for example. None: a ChainOfThought.
        max_hops: sub-questions at most.
        sequential: later sub-questions may need the answers of earlier ones.

    Raises:
        ConfigError: a setting is not usable.
    """

    def __init__(
        self,
        signature: str | type[Signature] | Mapping[str, Any] = "question -> answer",
        hop: Module | None = None,
        max_hops: int = 5,
        sequential: bool = True,
    ) -> None:
        """Make the predictors `decompose`, `hop` and `synthesize`."""
        self.signature = made = make_signature(signature)
        self.max_hops = whole("max_hops", max_hops, 1)
        if not isinstance(sequential, bool):
            raise ConfigTypeError(f"sequential is invalid: got {sequential!r:.80}, expected True or False")
        self.sequential = sequential
        if hop is not None and not isinstance(hop, Module):
            raise ConfigTypeError(f"hop is invalid: got {hop!r:.80}, expected a program (question, context -> answer)")
        if hop is not None and (why := _unfit(hop)):
            raise ConfigValueError(f"hop is invalid: {why}; expected a program `question, context -> answer`")
        if not made.input_fields or not made.output_fields:
            raise ConfigValueError("signature is invalid: expected an input, the question, and an output, the answer")
        if clash := [name for name in ("sub_questions", "hops", "findings") if name in made.fields]:
            raise ConfigValueError(
                f"signature is invalid: MultiHopQA has a field {clash[0]!r} of its own; name yours otherwise"
            )
        outputs = ", ".join(f"`{name}`" for name in made.output_fields)
        asked = make_signature(
            dict(made.input_fields),
            f"{made.instructions}\n\nDo not answer yet. Break the question down into at most {self.max_hops} simpler "
            f"ones whose answers together give {outputs}. Put them in the order in which they have to be answered: one "
            "may refer to the answers of those before it. A question that is simple already stays as it is.",
        )
        field = OutputField(desc="each a question of its own, in order")
        self.decompose = Predict(asked.append("sub_questions", field, list[str]))
        self.hop: Any = hop or ChainOfThought(
            make_signature(
                "question, context: list[str] -> answer",
                "Answer the question in a few words. Use what is known already.",
            )
        )
        findings = InputField(desc="sub-questions and their answers")
        answered = make_signature({**made.input_fields, **made.output_fields}, made.instructions)
        self.synthesize = ChainOfThought(answered.append("findings", findings, list[str]))

    def steps(self, /, **kwargs: Any) -> Steps:
        """Decompose, answer, put together."""
        question = str(next((kwargs[name] for name in self.signature.input_fields if name in kwargs), ""))
        said = (yield Ask(self.decompose, **kwargs)).sub_questions
        parts = list(dict.fromkeys(text for one in said if (text := one.strip())))[: self.max_hops] or [question]
        if wanted():
            emit(QuestionDecomposed(question=question, sub_questions=parts))
        hops: list[dict[str, Any]] = []
        if self.sequential:
            for number, part in enumerate(parts, 1):
                hops.append((yield from self._hop(number, part, [_told(hop) for hop in hops])))
        else:
            hops = yield Parallel([self._hop(number, part, []) for number, part in enumerate(parts, 1)])
        answer = yield Ask(self.synthesize, **{**kwargs, "findings": [_told(hop) for hop in hops]})
        return Prediction(**dict(answer.items()), sub_questions=parts, hops=hops)

    def _recipe(self) -> dict[str, Any]:
        own = {"signature": spec_of(self.signature), "max_hops": self.max_hops, "sequential": self.sequential}
        return {**own, "hop": recipe_of(self.hop)}

    @classmethod
    def _of_recipe(cls, recipe: Mapping[str, Any]) -> MultiHopQA:
        made, hop = signature_of(recipe["signature"]), make(recipe["hop"])
        return cls(made, hop, recipe["max_hops"], recipe["sequential"])

    def _hop(self, number: int, question: str, context: list[str]) -> Steps:
        """Answer one sub-question, as an operation that can be traced alone."""
        own = new_id()
        with operation(f"hop {number}", correlation_id=own, question=question):
            found = yield Ask(self.hop, question=question, context=context)
            if hasattr(found, "get") and "answer" not in found:
                raise ConfigValueError(
                    f"hop is invalid: its prediction has no `answer`, it has {', '.join(found.keys())}"
                )
            if found is None:
                raise ConfigValueError("hop is invalid: it returned None, expected a prediction with `answer`")
            answer = found["answer"] if hasattr(found, "get") else found
            if wanted():
                emit(SubQuestionAnswered(question=question, answer=answer, hop=number))
        return {"question": question, "answer": answer, "correlation_id": own}


def _unfit(hop: Module) -> str:
    """Return why a program cannot answer a sub-question; empty: it can, or only its code knows."""
    while (inner := hop._stands_for()) is not None:
        hop = inner
    signature = getattr(hop, "signature", None)
    if signature is None and type(hop) is ChainOfThought:
        signature = hop.predict.signature
    if isinstance(signature, SignatureMeta):
        needed = [name for name, field in signature.input_fields.items() if field.is_required()]
        if strange := [name for name in needed if name not in _HOP_INPUTS]:
            return f"it needs {', '.join(strange)}"
        return "" if "answer" in signature.output_fields else f"it answers {', '.join(signature.output_fields)}"
    way = next(iter(ways_of(hop)), None)
    if way is None:
        return f"{type(hop).__name__} has neither `forward` nor `aforward`, nor `steps`"
    try:
        inspect.signature(way).bind(**dict.fromkeys(_HOP_INPUTS))
    except TypeError as error:
        return f"{type(hop).__name__} cannot be called so: {error}"
    return ""


def _told(hop: dict[str, Any]) -> str:
    return f"{hop['question']} {hop['answer']}"
