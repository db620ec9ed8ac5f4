"""The string form of a signature: `"question, k: int -> answer: list[str]"`.

Each side is read as the parameter list of a Python function, so whatever Python can write as an annotation
works. Types are looked up, never evaluated: a signature string can name types, but cannot run code of its
own.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import Field
from pydantic.fields import FieldInfo

from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.foundation.parsing import alone
from dspex_actors.signatures.fields import UNDEFINED_TYPE, InputField, OutputField, complete_field
from dspex_actors.types.code import Code

#: How many calling frames are searched for a type that is not a builtin; DSPy's number.
_MAX_FRAMES = 100

_FORM = 'write it as "input, other: int -> output: list[str]"'

#: A quoted text, or an arrow.
_ARROW = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|->""")

Lookup = Callable[[str], Any]


def parse_signature(
    text: str, custom_types: Mapping[str, Any] | None = None, *, trusted: bool = True
) -> dict[str, FieldInfo]:
    """Read a signature string into its fields.

    Args:
        text: inputs, `->`, outputs; a name without a type is a `str`.
        custom_types: types by name; they win over builtins, `typing` and the callers' variables.
        trusted: False for text from a file: types are builtins and those of `typing`, nothing is imported.

    Returns:
        Name → field, inputs first, in the order written.

    Raises:
        ConfigValueError: no arrow or two, a syntax error, a duplicate name, an unknown type.
    """
    sides = _sides(text)
    if len(sides) != 2:
        raise ConfigValueError(f"signature {text!r} needs exactly one '->', it has {len(sides) - 1}; {_FORM}")
    lookup = _lookup(dict(custom_types or {}), trusted)
    fields: dict[str, FieldInfo] = {}
    for side, make in zip(sides, (InputField, OutputField), strict=True):
        for name, annotation in _parse_side(side, text):
            if name in fields:
                raise ConfigValueError(f"signature {text!r} has two fields called {name!r}; they need distinct names")
            if annotation is None:
                field = make()
                field.json_schema_extra[UNDEFINED_TYPE] = True
                fields[name] = complete_field(name, field, str)
            else:
                fields[name] = complete_field(name, make(), _resolve(annotation, lookup, text, name))
    return fields


def parse_type(text: str, custom_types: Mapping[str, Any] | None = None, *, trusted: bool = True) -> Any:
    """Return the type that a text names, as in a signature.

    Raises:
        ConfigValueError: it names none.
    """
    try:
        return _evaluate(
            alone(lambda: ast.parse(text.strip(), mode="eval")).body, _lookup(dict(custom_types or {}), trusted)
        )
    except (SyntaxError, ValueError, TypeError, AttributeError, ImportError, RecursionError) as error:
        why = getattr(error, "msg", None) or error
        raise ConfigValueError(f"type {text!r:.80} is not usable: {why}") from None


def _sides(text: str) -> list[str]:
    """Split at each `->` that is not inside quotes: a member of a Literal may hold one."""
    cuts = [found.start() for found in _ARROW.finditer(text) if found[0] == "->"]
    return [text[start:end] for start, end in zip([0, *(cut + 2 for cut in cuts)], [*cuts, len(text)], strict=True)]


def _parse_side(side: str, text: str) -> list[tuple[str, ast.expr | None]]:
    try:
        tree = alone(lambda: ast.parse(f"def f({side.strip()}): pass"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = getattr(error, "msg", None) or str(error) or "it is nested too deeply"
        raise ConfigValueError(f"signature {text!r:.200}: cannot read {side.strip()!r:.200} ({why}); {_FORM}") from None
    function = tree.body[0]
    if len(tree.body) != 1 or not isinstance(function, ast.FunctionDef):
        raise ConfigValueError(f"signature {text!r}: cannot read {side.strip()!r}; {_FORM}")
    rules = function.args
    if rules.vararg or rules.kwarg or rules.kwonlyargs or rules.posonlyargs or rules.defaults:
        raise ConfigValueError(
            f"signature {text!r}: {side.strip()!r} has a default, * or /; the class form takes defaults"
        )
    return [(arg.arg, arg.annotation) for arg in rules.args]


def _resolve(node: ast.expr, lookup: Lookup, text: str, field: str) -> Any:
    try:
        return _evaluate(node, lookup)
    except (SyntaxError, ValueError, TypeError, AttributeError, ImportError, RecursionError, MemoryError) as error:
        why = getattr(error, "msg", None) or error
        raise ConfigValueError(
            f"signature {text!r:.200}: type {_unparsed(node)!r:.200} of field {field!r} is not usable: {why}"
        ) from error


def _unparsed(node: ast.expr) -> str:
    try:
        return ast.unparse(node)
    except RecursionError:
        return "nested too deeply"


def _evaluate(node: ast.expr, lookup: Lookup) -> Any:
    match node:
        case ast.Constant(value=str() as forward):
            return _evaluate(alone(lambda: ast.parse(forward, mode="eval")).body, lookup)
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=value) if value is Ellipsis:
            return value
        case ast.Name(id=name):
            return lookup(name)
        case ast.Attribute():
            return _dotted(ast.unparse(node), lookup)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return typing.Union[_evaluate(left, lookup), _evaluate(right, lookup)]  # noqa: UP007 - built at run time
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return tuple(_evaluate(element, lookup) for element in elements)
        case ast.Subscript(value=base, slice=inner):
            return _generic(_evaluate(base, lookup), inner, lookup)
        case _:
            raise ValueError(f"{ast.unparse(node)!r} is not a type")


def _generic(base: Any, inner: ast.expr, lookup: Lookup) -> Any:
    if base is typing.Literal:
        elements = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        return typing.Literal[tuple(_literal_value(element, lookup) for element in elements)]
    if base is typing.Annotated and isinstance(inner, ast.Tuple):
        first, *rest = inner.elts
        return typing.Annotated[(_evaluate(first, lookup), *(_annotation(part, lookup) for part in rest))]
    if isinstance(base, type) and issubclass(base, Code):
        return Code.__class_getitem__(ast.literal_eval(inner))
    return base[_evaluate(inner, lookup)]


def _literal_value(node: ast.expr, lookup: Lookup) -> Any:
    if isinstance(node, ast.Attribute):
        return _dotted(ast.unparse(node), lookup)
    if isinstance(node, ast.Name):
        raise ValueError(f"{node.id!r} in a Literal needs quotes")
    return ast.literal_eval(node)


def _annotation(node: ast.expr, lookup: Lookup) -> Any:
    """Read what may follow the type in `Annotated[...]`: a constant, or pydantic's `Field(...)` with
    constants."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Field":
        return Field(**{word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg})
    return ast.literal_eval(node)


_BUILTINS: dict[str, Any] = {name: kind for name, kind in vars(builtins).items() if isinstance(kind, type)}
_BUILTINS |= {"NoneType": types.NoneType, "None": None}


#: Types of ours by name, and where they are: they need not be in reach of who writes a signature.
_OWN = {
    "Image": "image",
    "Audio": "audio",
    "File": "file",
    "Document": "document",
    "History": "history",
    "Tool": "tool",
    "ToolCalls": "tool_calls",
    "Code": "code",
    "Reasoning": "reasoning",
}


def _lookup(custom: dict[str, Any], trusted: bool) -> Lookup:
    def find(name: str) -> Any:
        if name in custom:
            return custom[name]
        if name in _BUILTINS:
            return _BUILTINS[name]
        if name in typing.__all__:
            return getattr(typing, name)
        if not trusted and name in _OWN:
            return getattr(importlib.import_module(f"dspex_actors.types.{_OWN[name]}"), name)
        if not trusted:
            raise ImportError(f"{name!r} is no type of Python or typing; nothing is imported for a file")
        found = from_callers(name)
        if found is None and name in _OWN:
            found = getattr(importlib.import_module(f"dspex_actors.types.{_OWN[name]}"), name)
        if found is None:
            raise ValueError(f"no type {name!r} in reach; pass custom_types={{{name!r}: ...}}")
        return found

    return find


def _dotted(path: str, lookup: Lookup) -> Any:
    """Find `module.Class` or `Outer.Inner`: the first name in reach, else the longest module that can be
    imported."""
    head, *rest = path.split(".")
    try:
        found = lookup(head)
    except ValueError:
        found = importlib.import_module(head)
    for part in rest:
        if isinstance(found, types.ModuleType) and not hasattr(found, part):
            found = importlib.import_module(f"{found.__name__}.{part}")
        else:
            found = getattr(found, part)
    return found


def from_callers(name: str) -> Any:
    """Return what `name` means to the nearest caller that knows it as a type or a module; None when nobody
    does."""
    frame = sys._getframe(1)
    for _ in range(_MAX_FRAMES):
        for scope in (frame.f_locals, frame.f_globals):
            found = scope.get(name)
            if found is not None and _is_type_like(found):
                return found
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


def _is_type_like(value: Any) -> bool:
    return isinstance(value, type | types.ModuleType) or typing.get_origin(value) is not None


def resolved(cls: type, name: str, annotation: Any) -> Any:
    """Turn an annotation that is text (`from __future__ import annotations`, a forward reference) into its
    type."""
    if not isinstance(annotation, str):
        return annotation
    module = sys.modules.get(cls.__module__)
    known = dict(vars(module)) if module else {}
    while True:
        try:
            return typing.get_type_hints(
                type("_", (), {"__annotations__": {name: annotation}}), known, {}, include_extras=True
            )[name]
        except NameError as error:
            # A type that is local to the function in which the class stands.
            found = from_callers(error.name) if error.name else None
            if found is None or error.name in known:
                raise ConfigTypeError(
                    f"type {annotation!r} of field {name!r} in signature {cls.__name__} is unknown: {error}"
                ) from error
            known[cast("str", error.name)] = found
        except Exception as error:  # it is evaluated: whatever Python says of it
            raise ConfigTypeError(
                f"type {annotation!r:.200} of field {name!r} in signature {cls.__name__} is not usable: "
                f"{type(error).__name__}: {error}"
            ) from None
