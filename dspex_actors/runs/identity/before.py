"""The digests of commit 17e5cbe and before: runs that have no others are compared by these.

A program was identified by its structure, its state and the source of its own classes, a metric by its source; values
that they hold made no difference.
"""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from types import CodeType
from typing import Any

import orjson

from dspex_actors.foundation.codec import to_plain
from dspex_actors.programs.module import Module


def _digest(parts: list[str]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        whole.update(b"%d:" % len(data) + data)
    return whole.hexdigest()[:32]


def source_of(thing: Any) -> str:
    """Return the source of a function or class; where there is none, what its code object says."""
    try:
        return textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError):
        code = getattr(thing, "__code__", None)
        return _code(code) if code is not None else getattr(thing, "__qualname__", repr(thing))


def _code(code: CodeType) -> str:
    consts = [_code(value) if isinstance(value, CodeType) else _constant(value) for value in code.co_consts]
    return f"{code.co_code.hex()}:{code.co_names}:{consts}"


def _constant(value: Any) -> str:
    # The order of a set is another one in each process.
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def program_digest(program: Any) -> str:
    """Return the identity of a program: classes, their own source, and saved state (instructions, demos)."""
    if not isinstance(program, Module):
        return _digest([source_of(program)])
    parts = []
    for path, module in program.named_sub_modules():
        cls = type(module)
        parts.append(f"{path}={cls.__qualname__}")
        if not cls.__module__.startswith("dspex_actors."):
            parts.append(source_of(cls))
    for path, predictor in program.named_predictors():
        signature = predictor.signature
        fields = [f"{name}:{field.annotation!r}" for name, field in signature.fields.items()]
        parts.append(f"{path}({', '.join(fields)})")
        # Not dump_state: a demo may hold what JSON cannot, and has an identity all the same.
        state = [signature.dump_state(), [to_plain(dict(demo)) for demo in predictor.demos], predictor.config]
        parts.append(orjson.dumps(state, option=orjson.OPT_SORT_KEYS, default=repr).decode())
    return _digest(parts)


def metric_digest(metric: Any) -> str:
    """Return the identity of a metric: its name and source; of one of ours its settings."""
    if type(metric).__module__.startswith("dspex_actors."):
        return _digest([repr(metric)])
    name = getattr(metric, "__name__", None) or type(metric).__name__
    return _digest([name, source_of(metric if inspect.isfunction(metric) else type(metric))])


def run_identity(program: Any, metric: Any) -> dict[str, Any]:
    """Return the identity of a run as the fields of its `RunSpec`, as it was told up to commit 17e5cbe."""
    return {"program_digest": program_digest(program), "metric_digest": metric_digest(metric)}
