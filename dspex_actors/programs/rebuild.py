"""Programs from their saved state alone: what `save` adds for that, and what is made of it.

DSPy's layout says what optimisers changed, not what the program is. For a bare Predict or ChainOfThought whose fields
have plain types, `save` adds class and signature under `metadata`, which DSPy carries along unread. A program of
one's own needs its code; a state that DSPy saved needs its signature.
"""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

from dspex_actors.adapters.types import type_name
from dspex_actors.errors import ConfigError
from dspex_actors.programs import saving as states
from dspex_actors.programs.chain_of_thought import ChainOfThought
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict
from dspex_actors.signatures.signature import Signature, make_signature

_CLASSES: dict[str, type[Predict] | type[ChainOfThought]] = {"Predict": Predict, "ChainOfThought": ChainOfThought}
_REASONING = "reasoning"


def describe(program: Module) -> dict[str, Any] | None:
    """Return class and signature of a program that `rebuild` can make again; None for any other one."""
    if type(program) is Predict:
        signature = program.signature
    elif type(program) is ChainOfThought:
        signature = program.predict.signature.delete(_REASONING)
    else:
        return None
    text = _written(signature)
    return None if text is None else {"class": type(program).__name__, "signature": text}


def _written(signature: type[Signature]) -> str | None:
    """Write a signature as text; None where the text would not give the same fields."""
    if not all(_is_plain(field.annotation) for field in signature.fields.values()):
        return None
    sides = [
        ", ".join(f"{name}: {type_name(field.annotation)}" for name, field in fields.items())
        for fields in (signature.input_fields, signature.output_fields)
    ]
    text = " -> ".join(sides)
    try:
        again = make_signature(text)
    except ConfigError:
        return None
    same = [(name, field.annotation) for name, field in again.fields.items()] == [
        (name, field.annotation) for name, field in signature.fields.items()
    ]
    return text if same and list(again.input_fields) == list(signature.input_fields) else None


def _is_plain(annotation: Any) -> bool:
    """Whether a type can be written down by name: a type of the user's own has one that means nothing elsewhere."""
    if typing.get_origin(annotation) is typing.Literal:
        return all(isinstance(member, (str, int)) for member in typing.get_args(annotation))
    if parts := typing.get_args(annotation):
        return all(_is_plain(part) for part in parts)
    return annotation is Any or annotation is None or getattr(annotation, "__module__", "") == "builtins"


def rebuild(path: Path, signature: str | None = None) -> Module:
    """Make a program from a saved state.

    Args:
        path: what `save` wrote, here or in DSPy.
        signature: of its predictor; None: the one that was saved with it.

    Raises:
        ConfigError: no such file; it does not say what the program is; or its state is of another structure.
    """
    state = states.read(path)
    known = (state.get("metadata") or {}).get("dspex") if isinstance(state.get("metadata"), dict) else None
    known = known if isinstance(known, dict) else {}
    parts = [name for name in state if name != "metadata"]
    if "signature" in parts and "demos" in parts:
        name = "Predict"
    elif parts == ["predict"]:
        name = "ChainOfThought"
    else:
        raise ConfigError(
            f"{path.name} is the state of a program with code of its own (predictors {', '.join(parts) or 'none'}): "
            f"give that as pkg.mod:object, with --load {path.name}"
        )
    text = signature or known.get("signature")
    if not isinstance(text, str):
        raise ConfigError(f'{path.name} does not say what its fields are called: add --signature "input -> output"')
    program: Module = _CLASSES[name](make_signature(text))
    program.load_state(state)
    return program
