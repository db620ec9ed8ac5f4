"""Reads the imports of a package from its sources: lazy ones and those under TYPE_CHECKING too."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("supervisors", "dspex_actors")


class Import(NamedTuple):
    """One import: the line where it stands, and the module that it names."""

    line: int
    module: str


def module_of(path: Path) -> str:
    """Return the dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, Path]:
    """Return the files of both packages by their dotted names."""
    found = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {module_of(path): path for path in found}


@cache
def _imports_in(path: Path) -> tuple[ast.AST, ...]:
    tree = ast.parse(path.read_text(), str(path))
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom | ast.Call))


def imports_of(path: Path, modules: dict[str, Path]) -> Iterator[Import]:
    """Return what a file imports: `from a import b` is an import of a.b where that is a module."""
    for node in _imports_in(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            package = _absolute(node, path)
            for alias in node.names:
                full = f"{package}.{alias.name}"
                yield Import(node.lineno, full if full in modules else package)
        elif isinstance(node, ast.Call) and _name_of(node.func) in ("import_module", "__import__"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield Import(node.lineno, argument.value)


def _absolute(node: ast.ImportFrom, path: Path) -> str:
    if not node.level:
        return node.module or ""
    package = list(path.relative_to(ROOT).parts[: -node.level])
    return ".".join([*package, *([node.module] if node.module else [])])


def _name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def graph(modules: dict[str, Path]) -> dict[str, dict[str, int]]:
    """Return for each module the modules of the packages that it imports, with the line of the import."""
    arrows: dict[str, dict[str, int]] = {}
    for module, path in modules.items():
        arrows[module] = {
            each.module: each.line
            for each in imports_of(path, modules)
            if each.module in modules and each.module != module
        }
    return arrows


def circles(arrows: dict[str, dict[str, int]]) -> list[list[str]]:
    """Return the groups of modules that import each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in arrows.get(module, ()):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            group = []
            while not group or group[-1] != module:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for module in arrows:
        if module not in index:
            visit(module)
    return found


def room_of(module: str, rooms: tuple[str, ...]) -> int | None:
    """Return the place of a module's room in a list of rooms; None: it is in none of them."""
    for place, room in enumerate(rooms):
        if any(re.fullmatch(rf"{re.escape(name)}(\..*)?", module) for name in room.split()):
            return place
    return None
