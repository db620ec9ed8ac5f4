"""What a program learns of its trajectories: a demo of what went well, or a rule from the better and the worse way."""

from __future__ import annotations

import textwrap
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from dspex_actors.example import Example
from dspex_actors.foundation.codec import to_plain
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature
from dspex_actors.teleprompt.mipro.code import code_of
from dspex_actors.teleprompt.simba.trajectories import Trajectory
from dspex_actors.teleprompt.steps import Ask

#: What stands for a way that says nothing: it was as good, or as bad, as the other.
NO_SCORE, NO_PREDICTION = "N/A", {"N/A": "Prediction not available"}
#: What follows an input that was cut.
CUT = "\n\t\t... <TRUNCATED FOR BREVITY>"


class OfferFeedback(Signature):
    """You are shown two ways in which a program of language model calls did the same task, and the reward of each. Help
    its modules to learn from that how to get a greater reward the next time that they are given something like it.

    A module does not see what it did before: all that it has is your advice, which is to be concrete and to hold for
    other inputs too.

    - Say nothing that goes without saying. Give advice that makes the module behave better from now on.
    - Advise each module on its own part, not on the program.
    - Rest your advice on what differs between the worse way and the better one.
    - Have each module's name once among the keys of the advice.
    """

    program_code: str = InputField(desc="the code of the program")
    modules_defn: str = InputField(desc="its modules, each with what goes in and what comes out")
    program_inputs: str = InputField(desc="what the program was given")
    oracle_metadata: str = InputField(desc="what is known of this example, and was hidden from the program")
    worse_program_trajectory: str = InputField(desc="what each module was given and said, the worse way")
    worse_program_outputs: str = InputField(desc="what the program said in the end, the worse way")
    worse_reward_value: str = InputField(desc="the reward of the worse way")
    worse_reward_info: str = InputField(desc="what else is said of that reward")
    better_program_trajectory: str = InputField(desc="what each module was given and said, the better way")
    better_program_outputs: str = InputField(desc="what the program said in the end, the better way")
    better_reward_value: str = InputField(desc="the reward of the better way")
    better_reward_info: str = InputField(desc="what else is said of that reward")
    module_names: list[str] = InputField(desc="the names of the modules that need advice")
    discussion: str = OutputField(desc="where which module went wrong, if one did")
    module_advice: dict[str, str] = OutputField(
        desc="for each module, concretely: if it is given (describe inputs, or what they have in common), then it "
        "should (describe what to say, how to go about it, what to avoid), so that it will act as in the better way"
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as good and as bad in a batch.

    Args:
        low: the 10th percentile of all scores; what is not above it is no example to follow.
        high: the 90th; what is not below it is no example to avoid.
    """

    low: float
    high: float


def add_demo(program: Module, best: Trajectory, limits: Limits, longest: int) -> bool:
    """Give each predictor its call in the best way as a demo, its last one where it had several.

    Args:
        program: gets the demos.
        best: of a bucket.
        limits: of the batch.
        longest: characters of an input; what is longer is cut. 0: nothing is.

    Returns:
        Whether it was good enough.
    """
    if best.score <= limits.low:
        return False
    predictors, last = dict(program.named_predictors()), {}
    for name, inputs, outputs in best.steps:
        shown = {key: _cut(value, longest) for key, value in inputs.items()}
        last[name] = Example({"augmented": True, **shown, **outputs})
    for name, demo in last.items():
        if name in predictors:
            predictors[name].demos = [*predictors[name].demos, demo]
    return True


def add_rules(
    program: Module, bucket: Sequence[Trajectory], limits: Limits, lm: Any
) -> Generator[Any, Any, Module | None]:
    """Yield the question what to learn from the best and the worst way, and add the advice to the instructions.

    Args:
        program: gets the advice.
        bucket: trajectories of one example, the best first.
        limits: of the batch.
        lm: which LM is asked; None: the one of the optimisation.

    Returns:
        The program, also where there was nothing to learn; None: no advice could be read.
    """
    good, bad = bucket[0], bucket[-1]
    if good.score <= limits.low or bad.score >= limits.high:
        return program
    row = question(program, good, bad, limits)
    if row is None:
        return None
    (answer,) = yield Ask(Predict(OfferFeedback), [row], lm)
    if answer is None:
        return None
    advice = answer.module_advice
    for name, predictor in program.named_predictors():
        if isinstance(advice, Mapping) and name in advice:
            text = f"{predictor.signature.instructions}\n\n{advice[name]}"
            predictor.signature = predictor.signature.with_instructions(text)
    return program


def question(program: Module, good: Trajectory, bad: Trajectory, limits: Limits) -> dict[str, Any] | None:
    """Return what is shown of two ways; None: there is nothing to show of the better one.

    Where both are as good, only one is shown: as the better one if it is among the best, else as the worse one.
    """
    names = [name for name, _ in program.named_predictors()]
    shown = {"better": _way(good, names), "worse": _way(bad, names)}
    if good.score <= bad.score:
        shown["worse" if good.score > limits.high else "better"] = ([], NO_PREDICTION, NO_SCORE)
    if shown["better"][1] is None:
        return None
    row: dict[str, Any] = {
        "program_code": code_of(program),
        "modules_defn": modules(program),
        "program_inputs": _text(dict(good.example.inputs().items())),
        "oracle_metadata": _text(dict(good.example.labels().items())),
        "module_names": names,
        "better_reward_info": _text(good.told),
        "worse_reward_info": _text(bad.told),
    }
    for which, (steps, outputs, score) in shown.items():
        row[f"{which}_program_trajectory"] = _text(steps)
        row[f"{which}_program_outputs"] = _text(outputs or {})
        row[f"{which}_reward_value"] = str(score)
    return row


def modules(program: Module) -> str:
    """Return a program's modules as text: names, fields, instructions."""
    rule = "-" * 80
    lines = [rule]
    for name, predictor in program.named_predictors():
        signature = predictor.signature
        lines.append(f"Module {name}")
        for title, fields in (("Input Fields", signature.input_fields), ("Output Fields", signature.output_fields)):
            lines.append(f"\t{title}:")
            lines += [f"\t\t{key} ({_type(field.annotation)}): {_described(field)}" for key, field in fields.items()]
        lines.append("\tOriginal Instructions:")
        lines += [f"\t\t{line}" for line in textwrap.dedent(signature.instructions).splitlines()]
        lines.append(rule)
    return "\n".join(lines)


def _way(way: Trajectory, names: Sequence[str]) -> tuple[list[Any], dict[str, Any] | None, float | str]:
    steps = [
        {"module_name": name, "inputs": inputs, "outputs": outputs}
        for name, inputs, outputs in way.steps
        if name in names
    ]
    return steps, way.prediction, way.score


def _cut(value: Any, longest: int) -> Any:
    text = str(value)
    return f"{text[:longest]}{CUT}" if longest and len(text) > longest else value


def _text(value: Any) -> str:
    return orjson.dumps(to_plain(value), option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str).decode()


def _type(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)


def _described(field: Any) -> str:
    said = (field.json_schema_extra or {}).get("desc", "")
    return "" if said.startswith("${") else said
