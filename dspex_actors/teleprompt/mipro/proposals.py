"""Instructions that an LM proposes, told of the data, of the program and of demos: DSPy's grounded proposer."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from itertools import islice
from typing import Any

from dspex_actors.errors import AdapterParseError, ContextWindowExceeded
from dspex_actors.example import Example, Prediction
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature
from dspex_actors.teleprompt.mipro.code import call_of, code_of
from dspex_actors.teleprompt.mipro.plan import DEMOS_TO_SHOW
from dspex_actors.teleprompt.mipro.summary import bare
from dspex_actors.teleprompt.steps import Ask, Together

#: What may be said beside, by DSPy's names and in their order, of which one is drawn.
TIPS = {
    "none": "",
    "creative": "Feel free to be creative with the new instruction!",
    "simple": "Write a clear and concise instruction.",
    "description": "Write an instruction that is very informative and descriptive.",
    "high_stakes": "Have the instruction tell of high stakes that hang on the task being done well!",
    "persona": 'Give the model a persona that suits the task ("You are a ...").',
}
#: What stands for demos, a description and a module that there are not.
NO_DEMOS, NO_DESCRIPTION, NO_MODULE = "No task demos provided.", "Not available", "Not provided"


class DescribeProgram(Signature):
    """You are shown the code of a program that does a task by asking language models. Say what the task seems to be,
    and how the program goes about it.
    """

    program_code: str = InputField(desc="the code of the program")
    program_example: str = InputField(desc="the program at work")
    program_description: str = OutputField(desc="what the task is, and how the program does it")


class DescribeModule(Signature):
    """You are shown the code of a program that does a task by asking language models. Say what one of its modules is
    for.
    """

    program_code: str = InputField(desc="the code of the program")
    program_example: str = InputField(desc="the program at work")
    program_description: str = InputField(desc="what the task is, and how the program does it")
    module: str = InputField(desc="the module in question")
    module_description: str = OutputField(desc="what part the module has in the program")


class ProposeInstruction(Signature):
    """You write instructions for language models. Learn from what is given below what the task is; then write a new
    instruction with which a language model does it better.
    """

    dataset_description: str = InputField(desc="what the data look like")
    program_code: str = InputField(desc="the code of the program that does the task")
    program_description: str = InputField(desc="what the task is, and how the program does it")
    module: str = InputField(desc="the module that needs an instruction")
    module_description: str = InputField(desc="what part the module has in the program")
    task_demos: str = InputField(desc="inputs and outputs of the module")
    basic_instruction: str = InputField(desc="the instruction as it is now")
    tip: str = InputField(desc="a hint how to go about it")
    proposed_instruction: str = OutputField(desc="the new instruction")


class Grounded(Module):
    """Describe the program and one of its modules, and propose an instruction for it.

    Args:
        temperature: of every LM call.
        data_aware, program_aware, with_tip: what it is told of.
    """

    def __init__(self, temperature: float, *, data_aware: bool, program_aware: bool, with_tip: bool) -> None:
        """Make the predictors."""
        signature: type[Signature] = ProposeInstruction
        of_program = ("program_code", "program_description", "module", "module_description")
        for is_told, names in (
            (data_aware, ("dataset_description",)),
            (program_aware, of_program),
            (with_tip, ("tip",)),
        ):
            for name in () if is_told else names:
                signature = signature.delete(name)
        self.describe_program = Predict(DescribeProgram, temperature=temperature)
        self.describe_module = Predict(DescribeModule, temperature=temperature)
        self.propose = Predict(signature, temperature=temperature)
        self.program_aware = program_aware

    async def aforward(self, rollout: int, program_code: str, module: str, task_demos: str, **told: str) -> Prediction:
        """Propose; `rollout` tells the calls of this proposal from those of others."""
        config = {"rollout_id": rollout}
        if self.program_aware:
            told |= await self._described(config, program_code, module, task_demos)
        found: Prediction = await self.propose.acall(**told, task_demos=task_demos, config=config)
        return found

    async def _described(self, config: dict[str, Any], code: str, module: str, demos: str) -> dict[str, str]:
        """Return what there is to say of program and module; what cannot be read is left out, as in DSPy."""
        told = {
            "program_code": code,
            "program_description": NO_DESCRIPTION,
            "module": NO_MODULE,
            "module_description": NO_MODULE,
        }
        shown = {"program_code": code, "program_example": demos}
        try:
            of_program = await self.describe_program.acall(**shown, config=config)
            told |= {"program_description": bare(str(of_program.program_description)), "module": module}
            of_module = await self.describe_module.acall(
                **shown, program_description=told["program_description"], module=module, config=config
            )
            told["module_description"] = str(of_module.module_description)
        except (AdapterParseError, ContextWindowExceeded):
            pass
        return told


class Proposals:
    """The instructions to choose from, for each predictor.

    Args:
        rng: draws tips and rollouts, in DSPy's order.
        program: the student.
        count: candidates for each predictor, its present instruction included, which is the first.
        sets: of demos there are; a proposal is shown one of them, and what others have.
        temperature: of proposals.
        program_aware, data_aware, tip_aware, demos_aware: what is told.
    """

    def __init__(
        self,
        rng: random.Random,
        program: Module,
        count: int,
        sets: int,
        *,
        temperature: float,
        program_aware: bool,
        data_aware: bool,
        tip_aware: bool,
        demos_aware: bool,
    ) -> None:
        """Draw."""
        self._program, self._temperature = program, temperature
        self._program_aware, self._data_aware, self._demos_aware = program_aware, data_aware, demos_aware
        #: Predictor's place, set of demos, tip, rollout.
        self.drawn = [
            (place, number, TIPS[rng.choice(list(TIPS))] if tip_aware else "", rng.randint(0, 10**9))
            for place in range(len(program.predictors()))
            for number in range(min(count, max(sets, 1)))
        ]

    def steps(
        self, demos: Sequence[Sequence[Sequence[Any]]], summary: str | None, lm: Any
    ) -> Generator[Any, Any, list[list[str]]]:
        """Yield the questions, and return the candidates by predictor.

        DSPy asks for a first proposal too, and then has the present instruction in its place: it is not asked for.

        Args:
            demos: predictor's place → sets of demos.
            summary: of the dataset; None: there is none.
            lm: which LM is asked.
        """
        predictors = self._program.predictors()
        code = code_of(self._program) if self._program_aware else ""
        told: dict[str, Any] = {} if summary is None or not self._data_aware else {"dataset_description": summary}
        # Those with a tip and those without are asked in another form.
        rows: dict[bool, list[tuple[tuple[int, int], dict[str, Any]]]] = {True: [], False: []}
        for place, number, tip, rollout in self.drawn:
            if number:
                row = {
                    "rollout": rollout,
                    "program_code": code,
                    "module": call_of(predictors[place]),
                    "task_demos": self._demos(predictors[place].signature, demos[place], number),
                    "basic_instruction": predictors[place].signature.instructions,
                    **told,
                }
                rows[bool(tip)].append(((place, number), row | {"tip": tip} if tip else row))
        asked = {with_tip: found for with_tip, found in rows.items() if found}
        answers = yield Together(
            [
                Ask(self._proposer(data_aware=bool(told), with_tip=with_tip), [row for _, row in found], lm)
                for with_tip, found in asked.items()
            ]
        )
        proposed = {
            key: answer
            for found, some in zip(asked.values(), answers, strict=True)
            for (key, _), answer in zip(found, some, strict=True)
        }
        candidates = [[predictor.signature.instructions] for predictor in predictors]
        for (place, _), answer in sorted(proposed.items(), key=lambda one: one[0]):
            if answer is not None:
                candidates[place].append(bare(bare(str(answer.proposed_instruction))))
        return candidates

    def _proposer(self, *, data_aware: bool, with_tip: bool) -> Grounded:
        return Grounded(self._temperature, data_aware=data_aware, program_aware=self._program_aware, with_tip=with_tip)

    def _demos(self, signature: type[Signature], sets: Sequence[Sequence[Any]], number: int) -> str:
        if not self._demos_aware:
            return NO_DEMOS
        around = [sets[number], *sets[number + 1 :], *sets[:number]]
        augmented = (demo for one in around for demo in one if "augmented" in demo)
        shown = [_demo(signature, demo) for demo in islice(augmented, DEMOS_TO_SHOW)]
        return "\n\n".join(shown) + "\n\n" if shown else NO_DEMOS


def _demo(signature: type[Signature], demo: Example) -> str:
    labels = [field["prefix"] for field in signature.dump_state()["fields"]]
    return "\n".join(f"{label} {demo.get(name)}" for label, name in zip(labels, signature.fields, strict=True))
