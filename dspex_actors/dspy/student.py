"""`DSPyStudent`: a program of DSPy's as optimisers of ours see it, and the way back. See docs/design/dspy.md.

For each predictor of DSPy's there is one of ours that stands for it: it has the same name, signature, demos and
parameters, and optimisers change it as they change any other. DSPy's program itself is never changed. A call makes a
copy of it, sets on the copy's predictors what those that stand for them have, and runs that; what DSPy writes into its
trace is written into ours, with the predictors that stand for DSPy's.
"""

from __future__ import annotations

import copy
import operator
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from dspex_actors.dspy.program import DSPyProgram, our_lm, theirs
from dspex_actors.dspy.their_lm import TheirLM
from dspex_actors.errors import AdapterParseError, ConfigError, DspexError
from dspex_actors.example import Example
from dspex_actors.lm.base import BaseLM
from dspex_actors.programs.at_once import add_to_trace
from dspex_actors.programs.predict import Predict
from dspex_actors.programs.walk import Predictor, copied
from dspex_actors.settings import settings
from dspex_actors.signatures.fields import SIDE
from dspex_actors.signatures.signature import Signature, make_signature

#: Under this name DSPy's fields say on which side they are.
_THEIR_SIDE = "__dspy_field_type"
#: Of DSPy's classes these say nothing of a task.
_PLAIN = frozenset({"Predict", "ChainOfThought"})


def is_theirs(program: Any) -> bool:
    """Whether something is a program of DSPy's."""
    module = getattr(sys.modules.get("dspy"), "Module", None)  # who has one has imported it
    return isinstance(module, type) and isinstance(program, module)


def as_student(program: Any) -> Any:
    """Return what is optimised for a program: a `DSPyStudent` for a `dspy.Module`, also where `as_program` has had it;
    anything else as it is.

    Raises:
        ConfigError: it has an LM or a signature that cannot be used here.
    """
    if type(program) is DSPyProgram:
        program = program.module
    if not is_theirs(program):
        return program
    dspy: Any = sys.modules["dspy"]
    module = program.deepcopy()
    parts = {}
    for number, (path, predictor) in enumerate(module.named_predictors()):
        parts[path] = DSPyPredictor(predictor, asked(predictor.lm))
        predictor.reset()
        predictor.stage = f"{number:016x}"  # DSPy draws it by lot, and reads it nowhere
    return DSPyStudent(module, dspy.settings.adapter, parts)


def asked(lm: Any) -> Any:
    """Return the LM of ours that stands for one of DSPy's; anything else as it is.

    Raises:
        ConfigError: its key is not in the environment, or a setting is none of ours.
    """
    dspy = sys.modules.get("dspy")
    kind = getattr(dspy, "BaseLM", None)
    if not isinstance(kind, type) or not isinstance(lm, kind):
        return lm
    found = our_lm(dspy, lm)
    return found.lm if isinstance(getattr(found, "lm", None), BaseLM) else TheirLM(found)


def default_lm() -> Any:
    """Return the LM of ours that stands for the one which `dspy.configure` has set; None: it has set none."""
    dspy: Any = sys.modules.get("dspy")
    return None if dspy is None else asked(dspy.settings.lm)


def handed_back(student: Any, original: Any) -> Any:
    """Return DSPy's program with what an optimiser has found.

    Args:
        student: what the optimiser returned: a `DSPyStudent`.
        original: the program it was made of: a predictor that kept its LM has the one it has there.

    Returns:
        A copy of `original`. What was noted down on the student (`candidate_programs`, `score`) is noted down on it,
        the programs in it made DSPy's too.
    """
    return _handed(student, original, {})


def _handed(student: Any, original: Any, done: dict[int, Any]) -> Any:
    made = done[id(student)] = original.deepcopy()
    lms = {path: predictor.lm for path, predictor in original.named_predictors()}
    student.set_on(made)
    for path, predictor in made.named_predictors():
        predictor.lm = None if student.parts[path].lm is None else lms[path]
    made._compiled = student._compiled
    for name, value in vars(student).items():
        if name not in _OWN:
            setattr(made, name, _back(value, original, done))
    return made


def _back(value: Any, original: Any, done: dict[int, Any]) -> Any:
    if isinstance(value, DSPyStudent):
        return done[id(value)] if id(value) in done else _handed(value, original, done)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | tuple):
        made = [_back(one, original, done) for one in value]
        # Data to fine-tune with stay what they are: they can do more than a list.
        return value if not isinstance(value, list) and all(map(operator.is_, made, value)) else made
    if isinstance(value, Mapping):
        return {name: _back(one, original, done) for name, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        held = {one.name: getattr(value, one.name) for one in fields(value) if one.init}
        return replace(value, **{name: _back(one, original, done) for name, one in held.items()})
    return value


def example_of(value: Any) -> Any:
    """Return an example of DSPy's as one of ours; anything else as it is."""
    kind = getattr(sys.modules.get("dspy"), "Example", None)
    if not isinstance(kind, type) or not isinstance(value, kind):
        return value
    one: Any = value
    made, inputs = Example(dict(one._store)), one._input_keys
    return made if inputs is None else made.with_inputs(*inputs)


def examples_of(source: Any) -> Any:
    """Return a dataset with examples of DSPy's as ours; a path, or what is no dataset, as it is."""
    if isinstance(source, str | Path | Mapping) or not isinstance(source, Iterable):
        return source
    return [example_of(one) for one in source]


class DSPyPredictor(Predict):
    """Stands for a predictor of DSPy's.

    Args:
        predictor: DSPy's.
        lm: ours, for its own; None: it has none.
    """

    def __init__(self, predictor: Any, lm: Any) -> None:
        """Take over what it has."""
        # Not Predict's own: what its outputs may be decides DSPy's adapter.
        self.signature = _signature_of(predictor.signature)
        self.config = dict(predictor.config)
        self.demos = [example_of(demo) for demo in predictor.demos]
        self.train, self.traces = [], []
        self.lm = lm
        #: What prompts call it.
        self.kind = type(predictor).__name__

    def set_on(self, predictor: Any) -> None:
        """Set what this one has on DSPy's predictor.

        Raises:
            ConfigError: it has other fields.
        """
        predictor.signature = _signature_on(predictor.signature, self.signature)
        predictor.config = dict(self.config)
        predictor.demos = [_their_example(demo) for demo in self.demos]
        predictor.lm = None if self.lm is None else theirs(self.lm)


class DSPyStudent(DSPyProgram):
    """A program of DSPy's that is optimised.

    Args:
        module: the program; its predictors have no demos and no LM. It is not changed.
        adapter: DSPy's setting. None: DSPy's default.
        parts: path of a predictor → what stands for it.
    """

    def __init__(self, module: Any, adapter: Any, parts: dict[str, DSPyPredictor]) -> None:
        """Keep them."""
        super().__init__(module, None, adapter)
        self.parts = parts
        self._compiled = getattr(module, "_compiled", False) is True

    def named_predictors(self) -> list[tuple[str, Predictor]]:
        """Return what stands for DSPy's predictors, under DSPy's names."""
        return list(self.parts.items())

    def predictors(self) -> list[Any]:
        """Return what stands for DSPy's predictors."""
        return list(self.parts.values())

    def set_on(self, module: Any) -> None:
        """Set on a program of DSPy's predictors what those that stand for them have."""
        there = dict(module.named_predictors())
        if list(there) != list(self.parts):
            raise ConfigError(
                f"{type(module).__name__} has other predictors than the program that was optimised: "
                f"{', '.join(there) or 'none'} for {', '.join(self.parts)}"
            )
        for path, part in self.parts.items():
            part.set_on(there[path])

    def conversation(
        self, name: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], *, exclude_demos: bool = False
    ) -> list[dict[str, Any]]:
        """Return a call of a predictor and its answer as role/content messages, in the words of DSPy's adapter.

        Args:
            name: of the predictor.
            inputs: of the call.
            outputs: what came of it.
            exclude_demos: without the predictor's demos.
        """
        import dspy

        asked = dict(self._at_work().named_predictors())[name]
        adapter = self.adapter or dspy.ChatAdapter()
        prompt = adapter.format(asked.signature, [] if exclude_demos else asked.demos, dict(inputs))
        answer = adapter.format_assistant_message_content(asked.signature, dict(outputs))
        return [*prompt, {"role": "assistant", "content": answer}]

    def _at_work(self) -> Any:
        """Return the program that a call runs. It is made anew when something of a predictor is another one."""
        has = [one for part in self.parts.values() for one in (part.signature, part.config, part.lm, None, *part.demos)]
        key = [*map(id, has), *(dict(part.config) for part in self.parts.values())]
        known = _at_work.get(self)
        if known is None or known[0] != key:
            module = self.module.deepcopy()
            self.set_on(module)
            known = _at_work[self] = (key, has, module)
        return known[2]

    def _note(self, module: Any, trace: list[Any]) -> None:
        """Write DSPy's trace into ours. Predictors that the program has made itself are left out, as DSPy does."""
        here = settings.in_force()
        if here["trace"] is None:
            return
        names = {id(predictor): path for path, predictor in module.named_predictors()}
        add_to_trace(
            here,
            [
                (self.parts[names[id(predictor)]], inputs, prediction)
                for predictor, inputs, prediction in trace
                if id(predictor) in names
            ],
        )

    def _as_ours(self, error: BaseException) -> DspexError | None:
        """Return ours for an answer that DSPy's adapter could not read: optimisers learn from it."""
        found = super()._as_ours(error)
        signature = getattr(error, "signature", None)
        if found is not None or type(error).__name__ != "AdapterParseError" or signature is None:
            return found
        wanted = list(signature.output_fields)
        alike = [one.signature for one in self.parts.values() if list(one.signature.output_fields) == wanted]
        same = [one for one in alike if one.instructions == signature.instructions]
        return AdapterParseError(
            str(error),
            signature=next(iter((*same, *alike)), None),
            adapter_name=getattr(error, "adapter_name", None),
            lm_response=getattr(error, "lm_response", None),
            expected=wanted,
        )

    def _written(self) -> tuple[list[type], list[type]]:
        """Return what its code is, for an LM that is shown it: signatures, and the classes of DSPy's program."""
        modules = [module for _, module in self.module.named_sub_modules()]
        classes = [type(one) for one in modules if type(one).__name__ not in _PLAIN]
        return [part.signature for part in self.parts.values()], classes

    def __deepcopy__(self, memo: dict[int, Any]) -> DSPyStudent:
        """Copy what stands for the predictors; DSPy's program, which never changes, is shared."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        for name, value in vars(self).items():
            if name == "parts":
                twin.parts = copy.deepcopy(value, memo)
            else:
                vars(twin)[name] = value if name in _OWN else copied(value, memo)
        return twin


#: The programs that calls run, by student: what was set on them, and they.
_at_work: WeakKeyDictionary[DSPyStudent, tuple[list[Any], list[Any], Any]] = WeakKeyDictionary()
#: What a student is made of; all else was noted down on it.
_OWN = frozenset({"module", "lm", "adapter", "state", "parts", "_compiled", "callbacks"})


def _signature_of(theirs: Any) -> type[Signature]:
    """Return a signature of ours with the fields, types, words and instructions of one of DSPy's."""
    made = {}
    for name, field in theirs.fields.items():
        told = dict(field.json_schema_extra or {})
        side = told.pop(_THEIR_SIDE, "input")
        made[name] = (field.annotation, copy.copy(field))
        made[name][1].json_schema_extra = {**told, SIDE: side}
    return make_signature(made, theirs.instructions, theirs.__name__)


def _signature_on(theirs: Any, ours: type[Signature]) -> Any:
    """Return DSPy's signature with the words of ours."""
    before, after = _signature_of(theirs).dump_state(), ours.dump_state()
    if list(theirs.fields) != list(ours.fields):
        raise ConfigError(
            f"the signature {theirs.__name__} of DSPy's has the fields {', '.join(theirs.fields)}; it cannot get those "
            f"of {ours.__name__}: {', '.join(ours.fields)}"
        )
    if before["fields"] != after["fields"]:
        return theirs.load_state(after)
    return theirs if before == after else theirs.with_instructions(after["instructions"])


def _their_example(demo: Any) -> Any:
    import dspy

    if not isinstance(demo, Example):
        return demo
    made = dspy.Example(dict(demo._store))
    return made if demo._input_keys is None else made.with_inputs(*demo._input_keys)
