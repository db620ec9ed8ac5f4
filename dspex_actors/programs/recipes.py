"""Programs as data: the class of the library's own that one is, and what it is made with. Pure.

A recipe and a state (`dump_state`) are a whole program without any code in it. `written` gives both, or None where
something would be lost that way: it makes the program again from them and compares.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any, Protocol, Self, TypeVar, cast

from dspex_actors.adapters.types import type_name
from dspex_actors.errors import ConfigError
from dspex_actors.example import Example
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.lm.lm import LM
from dspex_actors.programs import saved_lm
from dspex_actors.signatures import specs
from dspex_actors.signatures.fields import SIDE, copy_field, extras
from dspex_actors.signatures.signature import Signature, SignatureMeta

#: What a file says of itself; another number is of a version to come.
FORMAT = 1
#: A predictor's lists whose items may be Examples, which a state has as plain dicts.
_LISTS = ("demos", "train", "traces")
#: Attributes that no recipe has: callbacks are of a process, and whether it was compiled stands beside the recipe.
_BESIDE = ("callbacks", "_compiled")
_CONSTRAINTS = (
    *("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "strict", "allow_inf_nan"),
    *("max_digits", "decimal_places"),
)


#: The classes whose programs can be data, and where they are. Subclasses are code of somebody's own.
_CLASSES = {
    "Predict": "predict",
    "ChainOfThought": "chain_of_thought",
    "MultiChainComparison": "multi_chain_comparison",
    "MultiHopQA": "multi_hop",
}
P = TypeVar("P")


def _class(name: Any) -> Any:
    """Return the class of a name; None: no program of such a one can be data."""
    place = _CLASSES.get(name) if isinstance(name, str) else None
    return None if place is None else getattr(importlib.import_module(f"dspex_actors.programs.{place}"), name)


def recipe_of(program: Any) -> dict[str, Any]:
    """Return class and arguments of a program.

    Raises:
        ConfigError: it is of no class whose programs can be data.
    """
    name = type(program).__name__
    if _class(name) is not type(program):
        raise ConfigError(f"{name} is code")
    recipe = {"class": name, **program._recipe()}
    return {**recipe, "compiled": True} if getattr(program, "_compiled", False) is True else recipe


def make(recipe: Any) -> Any:
    """Return the program of a recipe, without its state.

    Raises:
        ConfigError: it is no recipe, or one of another version.
    """
    name = recipe.get("class") if isinstance(recipe, Mapping) else type(recipe).__name__
    cls = _class(name) if isinstance(recipe, Mapping) else None
    if cls is None:
        raise ConfigValueError(f"got a program of the class {name!r:.80}, expected one of {', '.join(_CLASSES)}")
    try:
        program = cls._of_recipe(recipe)
    except KeyError as error:
        raise ConfigValueError(f"the recipe of a {name} lacks {error}") from None
    if recipe.get("compiled") is True:
        program._compiled = True
    return program


def make_as(kind: type[P], recipe: Any) -> P:
    """Return the program of a recipe that has to be of one class.

    Raises:
        ConfigError: it is of another one, or no recipe.
    """
    program = make(recipe)
    if type(program) is not kind:
        raise ConfigValueError(f"got a {type(program).__name__}, expected a {kind.__name__}")
    return program


class Program(Protocol):
    """What is written: a Module."""

    def dump_state(self) -> dict[str, Any]:
        """Return its state."""
        ...

    def load_state(self, state: dict[str, Any], *, allow_unsafe_lm_state: bool = False) -> Self:
        """Take one over."""
        ...

    def named_predictors(self) -> list[tuple[str, Any]]:
        """Return (path, predictor) pairs."""
        ...

    def named_sub_modules(self) -> Any:
        """Return (path, program) pairs, itself first."""
        ...


def written(program: Program) -> str | None:
    """Return a program as JSON; None where that would lose some of it, so that it needs its code."""
    try:
        examples = {
            path: {name: [_inputs_of(item) for item in getattr(predictor, name)] for name in _LISTS}
            for path, predictor in program.named_predictors()
        }
        data = {
            "format": FORMAT,
            "recipe": recipe_of(program),
            "state": program.dump_state(),
            "examples": examples,
        }
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        again = read(json.loads(text), trusted=True)
    except (ConfigError, ValueError, TypeError, RecursionError):
        return None
    return text if _same(program, again) else None


def read(data: Any, *, trusted: bool) -> Any:
    """Return the program that `written` wrote.

    Args:
        data: the parsed JSON.
        trusted: it may say where an LM is.

    Raises:
        ConfigError: it is something else; says what.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("state"), Mapping) or "recipe" not in data:
        raise ConfigValueError("expected an object with recipe and state")
    if data.get("format") != FORMAT:
        raise ConfigValueError(
            f"got the format {data.get('format')!r:.40}, expected {FORMAT}: a newer version wrote it"
        )
    program = make(data["recipe"])
    program.load_state(dict(data["state"]), allow_unsafe_lm_state=trusted)
    examples = data.get("examples")
    for path, predictor in program.named_predictors():
        lists = examples.get(path) if isinstance(examples, Mapping) else None
        for name in _LISTS:
            items, marks = getattr(predictor, name), lists.get(name) if isinstance(lists, Mapping) else None
            if isinstance(marks, list) and len(marks) == len(items):
                setattr(predictor, name, [_example(item, mark) for item, mark in zip(items, marks, strict=True)])
    return program


def _inputs_of(item: Any) -> dict[str, Any] | None:
    """Say that an item is an Example, and which are its inputs; None: it is none."""
    if type(item) is not Example:
        return None
    return {"inputs": None if item._input_keys is None else sorted(item._input_keys)}


def _example(item: Any, mark: Any) -> Any:
    if not isinstance(mark, Mapping) or not isinstance(item, Mapping):
        return item
    example, inputs = Example(item), mark.get("inputs")
    if isinstance(inputs, list) and all(isinstance(each, str) for each in inputs):
        return example.with_inputs(*inputs)
    return example


def _same(program: Any, again: Any) -> bool:
    """Whether two programs of one recipe are the same in everything that they hold."""
    mine, theirs = list(program.named_sub_modules()), list(again.named_sub_modules())
    if [(path, type(each)) for path, each in mine] != [(path, type(each)) for path, each in theirs]:
        return False
    return all(_alike(each, twin) for (_, each), (_, twin) in zip(mine, theirs, strict=True))


def _alike(mine: Any, theirs: Any) -> bool:
    names = vars(mine).keys() - set(_BESIDE)
    if names != vars(theirs).keys() - set(_BESIDE):
        return False
    parts = {id(each) for _, each in mine.named_sub_modules()}
    return all(
        _alike_values(vars(mine)[name], vars(theirs)[name])
        for name in names
        if id(vars(mine)[name]) not in parts  # those are compared themselves
    )


def _alike_values(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, SignatureMeta):
        return isinstance(theirs, SignatureMeta) and _sketch(mine) == _sketch(theirs)
    if type(mine) is not type(theirs):
        return False
    if isinstance(mine, LM):
        return type(mine) is LM and saved_lm.dump(mine) == saved_lm.dump(theirs)  # a key is never saved
    if isinstance(mine, Example):
        return mine._input_keys == theirs._input_keys and _alike_values(mine._store, theirs._store)
    if isinstance(mine, dict):
        return mine.keys() == theirs.keys() and all(_alike_values(mine[name], theirs[name]) for name in mine)
    if isinstance(mine, list | tuple):
        return len(mine) == len(theirs) and all(map(_alike_values, mine, theirs))
    return bool(mine == theirs)


def _sketch(signature: SignatureMeta) -> tuple[Any, ...]:
    fields = []
    for name, field in signature.fields.items():
        rest = copy_field(field)
        rest.json_schema_extra = {}  # a dict's order says nothing
        fields.append((name, field.annotation, extras(field), repr(rest)))
    return signature.__name__, signature.instructions, fields


# --- signatures -------------------------------------------------------------------------------------------------------


def spec_of(signature: type[Signature]) -> dict[str, Any]:
    """Return a signature as the data that `signature_of` reads. What the data has no words for is missing in it."""

    def side(fields: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _field_spec(field) for name, field in fields.items()}

    return {
        "name": signature.__name__,
        "instructions": signature.instructions,
        "inputs": side(signature.input_fields),
        "outputs": side(signature.output_fields),
    }


def signature_of(spec: Any) -> type[Signature]:
    """Return the signature of a spec; nothing is imported for it."""
    found = specs.read(spec)
    return cast("type[Signature]", Signature._made(found.name, found.fields, found.instructions))


def _field_spec(field: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": type_name(field.annotation),
        "json_schema_extra": {name: value for name, value in extras(field).items() if name != SIDE},
    }
    for rule in field.metadata:
        found |= {key: bound for key in _CONSTRAINTS if (bound := getattr(rule, key, None)) is not None}
    if not field.is_required() and field.default_factory is None:
        found["default"] = field.default
    return found
