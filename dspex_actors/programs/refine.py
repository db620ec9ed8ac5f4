"""`Refine`: attempts that learn from each other."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

from dspex_actors.adapters.types import type_name
from dspex_actors.programs.attempts import Attempts, Best
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict
from dspex_actors.programs.steps import Ask, Steps
from dspex_actors.settings import settings
from dspex_actors.signatures.fields import InputField, OutputField, extras
from dspex_actors.signatures.signature import Signature

#: The input by which a predictor is told what to do better: DSPy's name.
HINT = "hint_"
_NO_HINT = "N/A"


class OfferFeedback(Signature):
    """A program has run, and its reward has not reached the target. Say which of its modules are at fault, and tell
    each of these what to do another time, should it get the same or similar inputs. A module sees nothing of this run,
    only what you tell it: be concrete, and leave nothing to be guessed. A module that is not at fault is told N/A.
    """

    program_code: str = InputField(desc="the program's source code")
    modules_defn: str = InputField(desc="its modules, with their inputs, outputs and instructions")
    program_inputs: str = InputField(desc="what the program was given")
    program_trajectory: str = InputField(desc="what each module was given and has answered, in order")
    program_outputs: str = InputField(desc="what the program has returned")
    reward_code: str = InputField(desc="the source code of the function that gives the reward")
    target_threshold: float = InputField(desc="the reward to reach")
    reward_value: float = InputField(desc="the reward of this run")
    module_names: list[str] = InputField(desc="the modules that need advice, by name")
    discussion: str = OutputField(desc="what went wrong, where, and who is at fault")
    advice: dict[str, str] = OutputField(
        desc="name of a module → first in which cases it has failed and how, then what it is to do in such cases; "
        "N/A for one that is not at fault"
    )


class Refine(Attempts):
    """Run a program up to N times, with advice from one attempt to the next, and return the best prediction.

    As `BestOfN`; but after an attempt whose reward is too low, an LM (that of the settings) is shown program, run and
    reward, and says for each predictor what to do better. The next attempt's predictors get that as an input `hint_`.

    Unlike DSPy's it keeps no count of failures between calls, `hint_` is not in the trace, and when every attempt has
    failed the last error is raised.

    Args:
        module: the program.
        N: attempts at most.
        reward_fn: `reward_fn(inputs, prediction)` → number; sync or async. Its source code is shown to the LM.
        threshold: a reward that is good enough; None: none is.
        fail_count: attempts that may fail; one more raises. None: N.

    Raises:
        ConfigError: one of them is not usable.
    """

    def __init__(
        self,
        module: Module,
        N: int,  # noqa: N803 - DSPy's name
        reward_fn: Callable[[dict[str, Any], Any], Any],
        threshold: float | None,
        fail_count: int | None = None,
    ) -> None:
        """Check the settings, and read the code that the LM is shown: where the program runs there may be none."""
        super().__init__(module, N, reward_fn, threshold, fail_count)
        self.module_code = _code_of(module)
        self.reward_fn_code = _source(reward_fn)

    def steps(self, /, **kwargs: Any) -> Steps:
        """Make the attempts."""
        best = Best(self)
        advice: dict[str, Any] = {}
        for number, lm in enumerate(self.rollouts()):
            twin = self.module.deepcopy()
            twin.set_lm(lm)
            if advice:
                _advise(twin, advice)
            try:
                prediction, reward, trace = yield from best.attempt(twin, kwargs)
                for _, inputs, _ in trace:
                    inputs.pop(HINT, None)
                if (self.threshold is not None and reward >= self.threshold) or number == self.N - 1:
                    break
                shown = self._shown(kwargs, prediction, reward, trace)
                advice = (yield Ask(Predict(OfferFeedback), lm=settings.lm or lm, **shown)).advice
            except Exception as error:
                best.failed(number, error)
        return best.taken()

    def _shown(self, inputs: dict[str, Any], prediction: Any, reward: float, trace: list[Any]) -> dict[str, Any]:
        names = {id(predictor): name for name, predictor in self.module.named_predictors()}
        run = [
            {"module_name": names.get(id(predictor), "?"), "inputs": given, "outputs": dict(said.items())}
            for predictor, given, said in trace
        ]
        outputs = dict(prediction.items()) if hasattr(prediction, "items") else {"output": prediction}
        return {
            "program_code": self.module_code,
            "modules_defn": describe_modules(self.module),
            "program_inputs": _as_json(inputs),
            "program_trajectory": _as_json(run),
            "program_outputs": _as_json(outputs),
            "reward_code": self.reward_fn_code,
            "target_threshold": self.threshold,
            "reward_value": reward,
            "module_names": list(names.values()),
        }


def _advise(program: Module, advice: dict[str, Any]) -> None:
    """Give each predictor an input with what it is to do better."""
    for name, predictor in program.named_predictors():
        field = InputField(desc="what to do better than an earlier run", default=str(advice.get(name, _NO_HINT)))
        predictor.signature = predictor.signature.append(HINT, field)


def describe_modules(program: Module) -> str:
    """Return the predictors of a program in words: their fields and instructions."""
    told: list[str] = []
    for name, predictor in program.named_predictors():
        signature = predictor.signature
        told.append(f"Module {name}")
        for title, fields in (("Inputs", signature.input_fields), ("Outputs", signature.output_fields)):
            told.append(f"  {title}:")
            for field_name, field in fields.items():
                words = extras(field)["desc"]
                about = "" if words == f"${{{field_name}}}" else f": {words}"
                told.append(f"    {field_name} ({type_name(field.annotation)}){about}")
        told.append("  Instructions:")
        told.extend(f"    {line}" for line in signature.instructions.splitlines())
    return "\n".join(told)


def _code_of(program: Module) -> str:
    """Return the source of a user's program; of one of ours what it is made of, which says more in less."""
    return repr(program) if type(program).__module__.startswith("dspex_actors.") else _source(type(program))


def _source(of: Any) -> str:
    for one in (of, type(of)):
        try:
            return inspect.getsource(one)
        except (TypeError, OSError):  # an object; or written in a shell, or in C
            continue
    return f"{getattr(of, '__qualname__', type(of).__qualname__)} (its source code is not there)"


def _as_json(value: Any) -> str:
    def plain(other: Any) -> Any:
        if hasattr(other, "toDict"):
            return other.toDict()
        return other.model_dump() if hasattr(other, "model_dump") else f"<{type(other).__name__}>"

    return json.dumps(value, indent=2, ensure_ascii=False, default=plain)
