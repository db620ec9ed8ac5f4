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
    signatures, classes = _written(program)
    parts = [_source(signature) or repr(signature) for signature in signatures]
    parts += [
        _source(cls) or f"class {cls.__name__}(Module): ..."
        for cls in reversed(list(dict.fromkeys(classes)))
        if cls not in _KNOWN
    ]
    return "\n\n".join(dict.fromkeys(part.strip() for part in parts))


def sources_of(program: Module) -> dict[str, str]:
    """Return the sources of a program's classes and signatures, as far as they are at hand, for `known_code`."""
    signatures, classes = _written(program)
    found = {_name(thing): _source(thing) for thing in (*classes, *signatures) if thing not in _KNOWN}
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
    kind = getattr(predictor, "kind", None) or type(predictor).__name__
    return f"{kind}({', '.join(signature.input_fields)}) -> {', '.join(signature.output_fields)}"


def _written(program: Module) -> tuple[list[type], list[type]]:
    """Return the signatures of a program, and the classes that it is written in."""
    if (said := program._written()) is not None:
        return said
    modules = [module for _, module in program.named_sub_modules()]
    signatures = [getattr(module, "signature", None) for module in modules if module.is_predictor]
    return [one for one in signatures if isinstance(one, type)], [type(module) for module in modules]


def _source(cls: type) -> str | None:
    if (sent := _sent.get().get(_name(cls))) is not None:
        return sent
    try:
        return textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        return None


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
