"""The source of code, in a form in which comments, blank lines and the place in the file make no difference."""

from __future__ import annotations

import ast
import dis
import inspect
import linecache
import sys
import textwrap
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

from dspex_actors.foundation.parsing import alone
from supervisors.wire.pickles import travels_by_value


def is_own(thing: Any) -> bool:
    """Whether a function or class is the user's own: part of no installed package."""
    name = getattr(thing, "__module__", None)
    if not isinstance(name, str):
        return True
    module = sys.modules.get(name)
    return module is None or travels_by_value(module)


def is_found_by_name(thing: Any) -> bool:
    """Whether its module has a function or class under its name."""
    found: Any = sys.modules.get(getattr(thing, "__module__", None) or "")
    for part in getattr(thing, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    return found is thing


def name_of(thing: Any) -> str:
    """Return module and name of a function or class that is in an installed package."""
    return f"{getattr(thing, '__module__', None)}.{getattr(thing, '__qualname__', None) or type(thing).__qualname__}"


#: Whether the files of code may be read: where it came from elsewhere they may be others by now.
_reads_files = True


def trust_code_alone() -> None:
    """Have this process tell code by its code objects: it was sent here, and its files may have been edited since."""
    global _reads_files  # noqa: PLW0603 - of the process
    _reads_files = False


def source_of(thing: FunctionType | type) -> str:
    """Return the source of a function or class; where there is none, what its code object says."""
    if not _reads_files:
        return _of_code(thing)
    return alone(lambda: _source(thing))


def _source(thing: FunctionType | type) -> str:
    if isinstance(thing, FunctionType) and thing.__name__ == "<lambda>":
        found = _lambda(thing.__code__)
        return _code(thing.__code__) if found is None else found
    try:
        return _plain(inspect.getsource(thing))
    except (OSError, TypeError, SyntaxError, ValueError):
        code = getattr(thing, "__code__", None)
        return "" if code is None else _code(code)


@lru_cache(maxsize=1000)  # the runs of an optimisation have the same metric and the same classes
def _plain(text: str) -> str:
    return ast.unparse(ast.parse(textwrap.dedent(text)))


def _of_code(thing: FunctionType | type) -> str:
    code = getattr(thing, "__code__", None)
    if code is not None:
        return _code(code)
    functions = {name: getattr(value, "__func__", value) for name, value in list(vars(thing).items())}
    told = {name: one.__code__ for name, one in functions.items() if isinstance(one, FunctionType)}
    return "".join(f"{name}:{_code(told[name])};" for name in sorted(told))


def used_globals(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Give (name, value) of the globals that a function reads, those of the functions inside it too.

    Of a module of the user's own it is the member that is read: `helpers.limit`.
    """
    seen = set()
    for path in sorted(_paths(function.__code__)):
        name, _, member = path.partition(".")
        if name not in function.__globals__:
            continue
        label, value = name, function.__globals__[name]
        if isinstance(value, ModuleType):
            if not member or not travels_by_value(value) or not hasattr(value, member):
                continue
            label, value = path, getattr(value, member)
        if label not in seen:
            seen.add(label)
            yield label, value


@lru_cache(maxsize=1000)
def _paths(code: CodeType) -> frozenset[str]:
    found = set()
    before: str | None = None
    for step in dis.get_instructions(code):
        name = str(step.argval)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            found.add(name)
            before = name
            continue
        if before is not None and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            found.add(f"{before}.{name}")
        if step.opname not in ("CACHE", "PRECALL", "EXTENDED_ARG"):
            before = None
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found |= _paths(inner)
    return frozenset(found)


def _lambda(code: CodeType) -> str | None:
    """Return the source of a lambda alone: what stands beside it in its line is not part of it."""
    tree = _tree(code.co_filename, tuple(linecache.getlines(code.co_filename)))
    if tree is None:
        return None
    places = [
        (line, column)
        for line, _, column, end in code.co_positions()
        if line is not None and column is not None and (column, end) != (0, 0)
    ]
    nodes = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno and _has(node, code, places)
    ]
    texts = {ast.unparse(node) for node in nodes}
    # Of lambdas inside each other the last one met is the innermost.
    return ast.unparse(nodes[-1]) if places and nodes else texts.pop() if len(texts) == 1 else None


def _has(node: ast.Lambda, code: CodeType, places: list[tuple[int, int]]) -> bool:
    args = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    names = tuple(arg.arg for arg in args)
    if names != code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        return False
    first, last = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
    return all(first <= place < last for place in places)


@lru_cache(maxsize=16)
def _tree(name: str, lines: tuple[str, ...]) -> ast.Module | None:
    try:
        return ast.parse("".join(lines))
    except (SyntaxError, ValueError):
        return None


def _code(code: CodeType) -> str:
    consts = [_code(value) if isinstance(value, CodeType) else _constant(value) for value in code.co_consts]
    return f"{code.co_code.hex()}:{code.co_names}:{consts}"


def _constant(value: Any) -> str:
    # The order of a set is another one in each process.
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
