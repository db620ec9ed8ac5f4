"""A program's code, as an LM is shown it that writes instructions for it."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from dspex_actors.programs.chain_of_thought import ChainOfThought
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict

#: Whose own code says nothing of the task.
_KNOWN = (Predict, ChainOfThought)
#: Sources of classes by module and name, where they were sent here and their files are elsewhere.
_sent: ContextVar[Mapping[str, str]] = ContextVar("dspex_sent_code", default={})  # noqa: B039 - nobody writes to it


def code_of(program: Module) -> str:
    """Return the source of a program: first its signatures and the programs in it, then its class.

    Where a source is not at hand (a class of an interactive session), its name and its signatures stand for it.
    """
    parts: list[str] = []
    for _, module in program.named_sub_modules():
        signature = getattr(module, "signature", None)
        if module.is_predictor and isinstance(signature, type):
            parts.append(_source(signature) or repr(signature))
    classes = [type(module) for _, module in program.named_sub_modules()]
    parts += [
        _source(cls) or f"class {cls.__name__}(Module): ..."
        for cls in reversed(list(dict.fromkeys(classes)))
        if cls not in _KNOWN
    ]
    return "\n\n".join(dict.fromkeys(part.strip() for part in parts))


def sources_of(program: Module) -> dict[str, str]:
    """Return the sources of a program's classes and signatures, as far as they are at hand, for `known_code`."""
    modules = [module for _, module in program.named_sub_modules()]
    things = [*map(type, modules), *(getattr(module, "signature", None) for module in modules if module.is_predictor)]
    found = {_name(thing): _source(thing) for thing in things if isinstance(thing, type) and thing not in _KNOWN}
    return {name: source for name, source in found.items() if source is not None}


@contextmanager
def known_code(sources: Mapping[str, str]) -> Iterator[None]:
    """Have `code_of` know the code of classes that were sent here, inside of the `with`.

    Args:
        sources: what `sources_of` has told where the classes come from.
    """
    token = _sent.set(sources)
    try:
        yield
    finally:
        _sent.reset(token)


def call_of(predictor: Any) -> str:
    """Return a predictor as a line: `Predict(question) -> answer`."""
    signature = predictor.signature
    return f"{type(predictor).__name__}({', '.join(signature.input_fields)}) -> {', '.join(signature.output_fields)}"


def _source(cls: type) -> str | None:
    if (sent := _sent.get().get(_name(cls))) is not None:
        return sent
    try:
        return textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        return None


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
