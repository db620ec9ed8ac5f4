"""Signatures that are made of others: composed, read from a spec, adapted to a model.

`SignatureMeta` has these as methods of every signature: `Triage.compose(...)`, `Signature.from_spec(...)`,
`Triage.adapted(...)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic.fields import FieldInfo

from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.foundation.events.outlet import emit, wanted
from dspex_actors.signatures import adapting, specs
from dspex_actors.signatures.fields import (
    check_names,
    complete_field,
    copy_field,
    default_instructions,
    description_of,
    extras,
    side_of,
    words_of,
)
from dspex_actors.signatures.validating import same_rules, takes

#: What becomes of a field that both signatures have, and that differs.
RULES = ("refuse", "first", "second", "rename")
Rule = str | Callable[[str, FieldInfo, FieldInfo], Any]


class Composable(type):
    """What makes signatures of signatures."""

    _fields: dict[str, FieldInfo]

    def compose(
        cls: Any, other: Any, *, on_conflict: Rule = "refuse", instructions: str | None = None, name: str | None = None
    ) -> Any:
        """Return a signature with the fields of this one and of another, for one call in the place of two.

        A field of both that is the same is one field. What this one gives and the other one takes, with the same type,
        is an output: the other's work goes on with it. Everything else of one name is a conflict.

        Args:
            other: another signature.
            on_conflict: "refuse"; "first" or "second": that one's field is taken; "rename": the second's field is
                called `name_2`; a function `(name, first, second)` that returns the field.
            instructions: of the whole; None: those of both, as paragraphs.
            name: of the class; None: both names.

        Raises:
            ConfigError: `other` is no signature, or a conflict is refused: all of them are named.
        """
        if not isinstance(other, Composable):
            raise ConfigTypeError(
                f"what {cls.__name__} is composed with is invalid: got {type(other).__name__}, expected a signature"
            )
        if not callable(on_conflict) and on_conflict not in RULES:
            raise ConfigValueError(
                f"on_conflict is invalid: got {on_conflict!r:.40}, expected {', '.join(RULES)} or a function"
            )
        if callable(on_conflict) and not takes(on_conflict, 3):
            raise ConfigTypeError(
                f"on_conflict is invalid: got {on_conflict!r:.60}, expected a function of the name and both fields"
            )
        words_of(instructions)
        check_names(name or "unnamed", None)
        fields, conflicts = dict(cls._fields), []
        for called, theirs in other._fields.items():
            mine = fields.get(called)
            if mine is None:
                fields[called] = theirs
                continue
            why = _difference(called, mine, theirs)
            if why is None:
                if not description_of(called, mine):
                    fields[called] = _described(mine, theirs)
            elif on_conflict == "refuse":
                conflicts.append(why)
            elif on_conflict == "second":
                fields[called] = theirs
            elif on_conflict == "rename":
                another = _free(called, fields, other._fields)
                fields[another] = complete_field(another, _nameless(theirs), theirs.annotation)
            elif callable(on_conflict):
                chosen = _chosen(called, on_conflict(called, mine, theirs))
                fields[called] = complete_field(called, chosen, chosen.annotation or str)
        if conflicts:
            raise ConfigValueError(
                f"{cls.__name__} and {other.__name__} cannot be composed: {'; '.join(conflicts)}; "
                "on_conflict= says which one is taken"
            )
        if instructions is None:
            both: tuple[Any, Any] = cls, other
            written = [each.instructions for each in both if is_written(each)]
            instructions = "\n\n".join(dict.fromkeys(written)) or None
        return cls._made(name or f"{cls.__name__}And{other.__name__}", fields, instructions)

    def from_spec(cls: Any, spec: Mapping[str, Any] | str, custom_types: Mapping[str, Any] | None = None) -> Any:
        """Make a signature from data: a mapping, or the same as JSON.

            Signature.from_spec({
                "name": "Triage",
                "instructions": "Sort a support ticket.",
                "inputs": {"ticket": "str", "tags": {"type": "list[str]", "default": []}},
                "outputs": {"team": {"enum": ["billing", "bugs"], "desc": "who handles it"}},
            })

        Args:
            spec: `inputs` and `outputs`, and where wanted `name` and `instructions`. A side is a dict by name, a list
                of names, or a list of dicts with `name`. A field is a type as text, or a dict with `type` (as in the
                string form; JSON's string, integer, number, boolean, array, object too) or `enum`, and what
                `InputField` takes. Nothing is imported for it.
            custom_types: types of one's own, by the names that the spec has for them.

        Raises:
            ConfigError: what is wrong with it, in one line.
        """
        read = specs.read(spec, custom_types)
        made = cls._made(read.name, read.fields, read.instructions)
        if wanted():
            from dspex_actors.foundation.events.kinds import SignatureCreated

            emit(SignatureCreated(signature=made.signature, instructions=made.instructions))
        return made

    def adapted(cls: Any, lm: Any = None, *, max_tokens: int | None = None) -> Any:
        """Return the signature as a model can take it; itself where it can be as it is.

        1. Inputs of a kind that the model is known not to take (pictures, sound, files) are left out where they may be,
           and refused where not.
        2. What the signature says in words is made shorter until it fits: descriptions come down to their first
           sentence, the longest first, then are left out; then paragraphs of the instructions, from the end.

        Args:
            lm: an LM, or a model string as "openai/gpt-4o-mini"; None: any.
            max_tokens: what instructions and fields may take together, estimated; None: a quarter of the model's
                window, where that is known.

        Raises:
            ConfigError: the model cannot take an input that has to be there, or names alone do not fit.
        """
        fields, instructions = adapting.adapted(cls.__name__, cls._fields, cls.instructions, lm, max_tokens)
        if fields == cls._fields and instructions == cls.instructions:
            return cls
        names_fields = not is_written(cls) and instructions == cls.instructions
        made = cls._made(cls.__name__, fields, None if names_fields else instructions)
        if wanted():
            from dspex_actors.foundation.events.kinds import SignatureAdapted

            before, after = ({"fields": list(each.fields), "words": each.instructions} for each in (cls, made))
            emit(SignatureAdapted(signature=cls.__name__, before=json.dumps(before), after=json.dumps(after)))
        return made

    def _made(cls, name: str, fields: Mapping[str, FieldInfo], instructions: str | None) -> Any:
        root = [base for base in cls.__mro__ if isinstance(base, Composable)][-1]
        if instructions is None:
            instructions = default_instructions(fields)
        inputs = {called: field for called, field in fields.items() if side_of(field) == "input"}
        ordered = {**inputs, **{called: field for called, field in fields.items() if called not in inputs}}
        namespace = {"__doc__": instructions, "__module__": cls.__module__, "_ready_fields": ordered}
        return type(root)(name, (root,), namespace)


def is_written(cls: Any) -> bool:
    """Whether somebody wrote its instructions: those made from the fields are no use to other fields."""
    return bool(cls.__doc__) and cls.__doc__ != default_instructions(cls._fields)


def _difference(name: str, mine: FieldInfo, theirs: FieldInfo) -> str | None:
    """Return in what two fields of a name differ; None: they can be one."""
    sides = side_of(mine), side_of(theirs)
    if mine.annotation != theirs.annotation:
        return f"{name} is {_type(mine)} and {_type(theirs)}"
    if sides == ("output", "input"):
        return None  # the second goes on with what the first gives
    if sides == ("input", "output"):
        return f"{name} is what the first takes and the second gives: compose them the other way round"
    words = description_of(name, mine), description_of(name, theirs)
    if all(words) and words[0] != words[1]:
        return f"{name} is described as {words[0]!r:.40} and {words[1]!r:.40}"
    same = same_rules(mine, theirs) and repr(mine.default) == repr(theirs.default)
    return None if same else f"{name} has other constraints or defaults"


def _type(field: FieldInfo) -> str:
    return getattr(field.annotation, "__name__", None) or str(field.annotation).replace("typing.", "")


def _described(mine: FieldInfo, theirs: FieldInfo) -> FieldInfo:
    twin = copy_field(mine)
    extras(twin)["desc"] = extras(theirs)["desc"]
    return twin


def _nameless(field: FieldInfo) -> FieldInfo:
    """Return a field without what was made of its name."""
    twin = copy_field(field)
    own = extras(twin)
    own.pop("prefix", None)
    if str(own.get("desc", "")).startswith("${"):
        del own["desc"]
    return twin


def _free(name: str, *taken: Mapping[str, Any]) -> str:
    number = 2
    while any(f"{name}_{number}" in each for each in taken):
        number += 1
    return f"{name}_{number}"


def _chosen(name: str, field: Any) -> FieldInfo:
    if not isinstance(field, FieldInfo):
        raise ConfigTypeError(
            f"on_conflict is invalid: it returned {type(field).__name__} for {name}, expected one of the two fields, "
            "or another one"
        )
    side_of(field)
    return field
