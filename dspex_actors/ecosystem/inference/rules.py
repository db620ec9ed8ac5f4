"""What inputs and outputs of a program have to be like: made of its signature, or of the parameters of its function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from dspex_actors.adapters.types import type_name
from dspex_actors.adapters.values import parser_for
from dspex_actors.errors import InvalidOutputs
from dspex_actors.programs.chain_of_thought import ChainOfThought
from dspex_actors.programs.inputs import fits
from dspex_actors.programs.module import ways_of
from dspex_actors.signatures.fields import UNDEFINED_TYPE
from dspex_actors.types.annotations import holds_types
from dspex_actors.types.validators import type_adapter

#: A finding: `input` or `output` (the field), `problem` and `message`.
Finding = dict[str, str]
#: Values in messages are cut after so many characters.
_SHOWN = 60


@dataclass(frozen=True)
class Rule:
    """What one field has to be like.

    Args:
        field: type and constraints; None: anything will do.
        is_required: whether it may be missing.
    """

    field: FieldInfo | None
    is_required: bool = True

    def trouble(self, value: Any) -> tuple[str, str] | None:
        """Return what is wrong with a value: a problem and the words for it; None: nothing is."""
        field = self.field
        if field is None or field.annotation is None:
            return None
        if not fits(value, field.annotation):
            if holds_types(field.annotation) and (value is None or _can_be(value, field.annotation)):
                return None  # the program makes an Image of an address; and a model may give no reasoning
            return "mistyped", f"got {_shown(value)} ({type(value).__name__}), expected {type_name(field.annotation)}"
        constraints = [rule for rule in field.metadata if rule is not None]
        if constraints:
            try:
                type_adapter(_constrained(field)).validate_python(value)
            except ValidationError as error:
                return "refused", f"got {_shown(value)}: {error.errors()[0]['msg'].lower()}"
        return None

    def coerced(self, value: Any) -> Any:
        """Return a value as the field's type.

        Raises:
            ValueError: it cannot be one.
        """
        assert self.field is not None
        return parser_for(self.field)(value)


@dataclass(frozen=True)
class InputRules:
    """What the inputs of a program have to be like.

    Args:
        rules: by name.
        is_open: other inputs are taken too (`**kwargs`, or nobody knows).
    """

    rules: Mapping[str, Rule]
    is_open: bool = False

    def check(self, inputs: Mapping[str, Any]) -> list[Finding]:
        """Return everything that is wrong with inputs."""
        known = ", ".join(self.rules) or "none"
        found = [
            _finding("input", name, "unknown", f"the program has no such input; it has {known}")
            for name in inputs
            if name not in self.rules and not self.is_open
        ]
        for name, rule in self.rules.items():
            if name not in inputs:
                if rule.is_required:
                    found.append(_finding("input", name, "missing", "it is missing"))
            elif (trouble := rule.trouble(inputs[name])) is not None:
                found.append(_finding("input", name, *trouble))
        return found

    def coerce(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return inputs as the program's types, without those that it does not know; and what was wrong, in words."""
        made, warnings = dict(inputs), []
        for finding in self.check(inputs):
            name, problem = finding["input"], finding["problem"]
            done = "the program goes without" if problem == "missing" else "it goes as it is"
            if problem == "unknown":
                del made[name]
                done = "it is left out"
            elif problem == "mistyped":
                try:
                    made[name] = self.rules[name].coerced(made[name])
                    done = f"it is taken as {_shown(made[name])}"
                except (ValueError, TypeError):
                    pass  # the LM may make sense of it all the same
            warnings.append(f"{finding['message']}: {done}")
        return made, warnings


def input_rules(program: Any) -> InputRules:
    """Return the rules for a program's inputs: of its signature, else of the parameters of its function."""
    signature = _signature_of(program)
    if signature is not None:
        return InputRules({name: _rule(field) for name, field in signature.input_fields.items()})
    function = _function_of(program)
    try:
        parameters = inspect.signature(function, eval_str=True).parameters.values() if function else ()
    except (TypeError, ValueError, NameError):
        return InputRules({}, is_open=True)  # written in C, or with annotations that mean nothing here
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return InputRules(
        {
            p.name: Rule(
                None if p.annotation in (p.empty, Any) else FieldInfo(annotation=p.annotation), p.default is p.empty
            )
            for p in named
        },
        is_open=not named or any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def output_rules(program: Any) -> dict[str, Rule]:
    """Return the rules for a program's outputs by name: of its signature; none where it has none."""
    signature = _signature_of(program)
    return {} if signature is None else {name: _rule(field) for name, field in signature.output_fields.items()}


def check_outputs(rules: Mapping[str, Rule], outputs: Mapping[str, Any]) -> list[Finding]:
    """Return everything that is wrong with the fields of a prediction; it may have more fields than the signature."""
    found = []
    for name, rule in rules.items():
        if name not in outputs:
            if rule.is_required:
                found.append(_finding("output", name, "missing", "it is missing"))
        elif (trouble := rule.trouble(outputs[name])) is not None:
            found.append(_finding("output", name, *trouble))
    return found


class OutputCheck:
    """Refuses a prediction whose outputs are not what the signature says.

    Args:
        rules: from `output_rules`.
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        """Keep the rules."""
        self._rules = rules

    def __call__(self, outputs: Mapping[str, Any]) -> None:
        """Return where they are.

        Raises:
            InvalidOutputs: they are not; `findings` has all that is wrong.
        """
        findings = check_outputs(self._rules, outputs)
        if findings:
            raise InvalidOutputs(f"the outputs are not what the signature says: {told(findings)}", findings=findings)


def told(findings: list[Finding]) -> str:
    """Return findings as one text."""
    return "; ".join(finding["message"] for finding in findings)


def _signature_of(program: Any) -> Any:
    """Return a program's signature; None: it is of a user's own kind, which takes and gives what its code says."""
    signature = getattr(program, "signature", None)
    if signature is not None and hasattr(signature, "input_fields"):
        return signature
    return program.predictors()[0].signature if type(program) is ChainOfThought else None


def _function_of(program: Any) -> Callable[..., Any] | None:
    return next(iter(ways_of(program)), program if callable(program) else None)


def _rule(field: FieldInfo) -> Rule:
    extra = field.json_schema_extra
    undefined = isinstance(extra, dict) and UNDEFINED_TYPE in extra
    return Rule(None if undefined else field, field.is_required())


def _constrained(field: FieldInfo) -> Any:
    return Annotated[(field.annotation, *[rule for rule in field.metadata if rule is not None])]


def _can_be(value: Any, annotation: Any) -> bool:
    try:
        type_adapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True


def _finding(side: str, name: str, problem: str, message: str) -> Finding:
    return {side: name, "problem": problem, "message": f"{side} {name!r}: {message}"}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
