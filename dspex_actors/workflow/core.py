"""What a workflow is made of: steps, brought into one form and checked before anything runs; and how mappings merge.

Pure: nothing here calls a step, reads a clock or waits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.foundation.checks import is_whole

#: Names of steps: so many characters at most; none begins with this, and none holds that.
NAME_CHARACTERS, RESERVED, SEPARATOR = 100, "__", "/"
#: Steps in steps in steps: so many deep at most.
MAX_DEPTH = 100
#: What becomes of a key that two branches give differently.
CONFLICTS = ("error", "first", "last")


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Args:
        name: what it is called; unique among its neighbours.
        fn: what is done: a function of the data (a dict) that returns a mapping to merge into them, or None; sync or
            async. Or a program, which gets those of the data that are its inputs, and whose prediction is merged. Or
            several steps: a list, a Workflow, Branches.
        retries: so many more times it is tried, at once, after an error.
        timeout: seconds for one try; None: as long as it takes.
        fallback: does it when the last try has failed, within the same timeout; takes and gives what `fn` does.

    Raises:
        ConfigError: an argument is not legal.
    """

    name: str
    fn: Any
    retries: int = 0
    timeout: float | None = None
    fallback: Any = None

    def __post_init__(self) -> None:
        """Check it."""
        check_name(self.name)
        if not is_whole(self.retries, 0):
            raise ConfigError(
                f"retries of step {self.name!r} are invalid: got {self.retries!r:.60}, expected a whole number from 0"
            )
        check_seconds(f"timeout of step {self.name!r}", self.timeout)
        for what, given in (("fn", self.fn), ("fallback", self.fallback)):
            several = what == "fn" and isinstance(given, (list, Branches, Nested))
            if not (several or can_be_called(given) or (what == "fallback" and given is None)):
                raise ConfigError(
                    f"{what} of step {self.name!r} is invalid: got {_shown(given)}, "
                    "expected a function of the data, or a program"
                )

    @property
    def is_plain(self) -> bool:
        """Whether it is done once, as long as it takes, and nothing is done instead."""
        return not self.retries and self.timeout is None and self.fallback is None


@dataclass(frozen=True)
class Branches:
    """Steps that are done at the same time, each with a copy of the data of its own.

    Args:
        branches: name → a function, a Step, a list of steps, or a Workflow.
        on_conflict: what of a key that several branches give, and not equal: error - the workflow fails; first, last -
            the branch that stands first, or last, is right.

    Raises:
        ConfigError: an argument is not legal.
    """

    branches: Mapping[str, Any]
    on_conflict: str = "error"

    def __post_init__(self) -> None:
        """Check it."""
        if not isinstance(self.branches, Mapping) or not self.branches:
            raise ConfigError(f"branches are invalid: got {_shown(self.branches)}, expected a dict of one or more")
        if self.on_conflict not in CONFLICTS:
            raise ConfigError(
                f"on_conflict is invalid: got {self.on_conflict!r:.60}, expected one of {', '.join(CONFLICTS)}"
            )
        for name in self.branches:
            check_name(name)


class Nested:
    """Base of what has steps of its own: a Workflow in a workflow."""

    #: The steps, as they were given.
    given: tuple[Any, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Leaf:
    """A step that calls something. `path`: its name behind those of all around it."""

    path: str
    step: Step


@dataclass(frozen=True, eq=False, slots=True)
class Row:
    """Steps one after the other."""

    items: tuple[Node, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Fork:
    """Steps at the same time, by name."""

    branches: dict[str, Node]
    on_conflict: str


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """Several steps that are tried again, limited and replaced as one."""

    path: str
    step: Step
    inner: Node


Node = Leaf | Row | Fork | Group


class Conflict(DspexError):
    """Branches gave different values of one key."""


# --- the one form -----------------------------------------------------------------------------------------------------


def normalised(steps: Any) -> Row:
    """Return steps in one form.

    Args:
        steps: a list of (name, fn), Step, Branches.

    Raises:
        ConfigError: one is none of them; a name is not legal or is there twice; a list, Branches or a Workflow stands
            in itself.
    """
    row = _row(steps, "", ())
    seen: set[str] = set()
    for leaf in leaves(row):
        if leaf.path in seen:
            raise ConfigError(f"the step {leaf.path!r} is there twice: give each step a name of its own")
        seen.add(leaf.path)
    return row


def leaves(node: Node) -> Iterator[Leaf]:
    """Give the steps that call something, in their order."""
    match node:
        case Leaf():
            yield node
        case Row(items):
            for item in items:
                yield from leaves(item)
        case Fork(branches, _):
            for branch in branches.values():
                yield from leaves(branch)
        case Group(_, _, inner):
            yield from leaves(inner)


def calls(node: Node) -> dict[str, tuple[Any, Any]]:
    """Return what each step calls, and instead, by path, in their order; a group with a fallback too."""
    match node:
        case Leaf(path, step):
            return {path: (step.fn, step.fallback)}
        case Group(path, step, inner) if step.fallback is not None:
            return {**calls(inner), f"{path}{SEPARATOR}": (step.fallback, None)}
        case Group(_, _, inner):
            return calls(inner)
        case Row(items):
            parts = items
        case Fork(branches, _):
            parts = tuple(branches.values())
    return {path: pair for part in parts for path, pair in calls(part).items()}


def _row(steps: Any, prefix: str, around: tuple[int, ...]) -> Row:
    if isinstance(steps, Nested):
        around, steps = _into(steps, prefix, around), steps.given
    if not isinstance(steps, list | tuple) or not steps:
        raise ConfigError(f"the steps{_of(prefix)} are invalid: got {_shown(steps)}, expected a list of one or more")
    inside = _into(steps, prefix, around)
    items = tuple(_item(step, prefix, inside) for step in steps)
    names: set[str] = set()
    for item in items:
        for name in _names(item, prefix):
            if name in names:
                raise ConfigError(f"the step {prefix}{name!s} is there twice: give each step a name of its own")
            names.add(name)
    return Row(items)


def _item(given: Any, prefix: str, around: tuple[int, ...]) -> Node:
    if isinstance(given, Branches):
        return _fork(given, prefix, around)
    if isinstance(given, tuple) and len(given) == 2:
        given = Step(*given)
    if not isinstance(given, Step):
        raise ConfigError(
            f"a step{_of(prefix)} is invalid: got {_shown(given)}, "
            "expected (name, function), Step(...) or Branches(...)"
        )
    return _step(given, prefix, around)


def _step(step: Step, prefix: str, around: tuple[int, ...]) -> Node:
    path = prefix + step.name
    if not isinstance(step.fn, (list, Branches, Nested)):
        return Leaf(path, step)
    inner = _several(step.fn, path + SEPARATOR, around)
    return Group(path, step, inner)


def _fork(branches: Branches, prefix: str, around: tuple[int, ...]) -> Fork:
    inside = _into(branches, prefix, around)
    found: dict[str, Node] = {}
    for name, given in branches.branches.items():
        below = f"{prefix}{name}{SEPARATOR}"
        if isinstance(given, Step):
            found[name] = _step(given, below, inside)
        elif isinstance(given, (list, Branches, Nested)):
            found[name] = _several(given, below, inside)
        else:
            found[name] = Leaf(prefix + name, Step(name, given))
    return Fork(found, branches.on_conflict)


def _several(given: Any, prefix: str, around: tuple[int, ...]) -> Node:
    return _fork(given, prefix, around) if isinstance(given, Branches) else _row(given, prefix, around)


def _into(given: Any, prefix: str, around: tuple[int, ...]) -> tuple[int, ...]:
    inside = given.branches if isinstance(given, Branches) else given
    if id(inside) in around:
        raise ConfigError(f"the steps{_of(prefix)} are invalid: they stand in themselves")
    if len(around) >= MAX_DEPTH:
        raise ConfigError(f"the steps{_of(prefix)} are invalid: expected at most {MAX_DEPTH} levels")
    return (*around, id(inside))


def _names(item: Node, prefix: str) -> list[str]:
    """Return what an item of a row takes of the row's names."""
    match item:
        case Leaf(path, _) | Group(path, _, _):
            return [path.removeprefix(prefix)]
        case Fork(branches, _):
            return list(branches)
    return []


# --- checks -----------------------------------------------------------------------------------------------------------


def check_name(name: Any) -> str:
    """Return the name of a step, or refuse it by a ConfigError."""
    if (
        not isinstance(name, str)
        or not 1 <= len(name) <= NAME_CHARACTERS
        or not name.isprintable()
        or SEPARATOR in name
        or name.startswith(RESERVED)
    ):
        raise ConfigError(
            f"the name of a step is invalid: got {name!r:.120}, expected a text of 1 to {NAME_CHARACTERS} printable "
            f"characters without {SEPARATOR} that does not begin with {RESERVED}"
        )
    return name


def check_seconds(what: str, value: Any) -> float | None:
    """Return a number of seconds above 0, or None, or refuse it by a ConfigError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"{what} is invalid: got {value!r:.60}, expected seconds above 0, or None")
    return float(value)


def can_be_called(value: Any) -> bool:
    """Whether something can do a step: a class is no function of the data."""
    return callable(value) and not isinstance(value, type)


def check_data(data: Any, what: str) -> dict[str, Any]:
    """Return a mapping with texts as keys as a dict.

    Raises:
        ConfigError: it is none.
    """
    keys = getattr(data, "keys", None)
    if isinstance(data, type) or not callable(keys) or not hasattr(data, "__getitem__"):
        raise ConfigError(f"{what} invalid: got {_shown(data)}, expected a mapping")
    found = {key: data[key] for key in keys()}
    for key in found:
        if not isinstance(key, str):
            raise ConfigError(f"{what} invalid: got the key {key!r:.60}, expected texts as keys")
    return found


def _of(prefix: str) -> str:
    return f" of {prefix.removesuffix(SEPARATOR)!r}" if prefix else ""


def _shown(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"{type(value).__name__} {value!r:.60}" if value is not None else "None"


# --- merging ----------------------------------------------------------------------------------------------------------


def merged(updates: Mapping[str, Mapping[str, Any]], on_conflict: str = "error") -> dict[str, Any]:
    """Return what branches gave as one mapping.

    Args:
        updates: branch → what it gave, in the order of the branches.
        on_conflict: what of a key that several give, and not equal.

    Raises:
        Conflict: there is one, and `on_conflict` is "error"; names the key and the branches.
    """
    found: dict[str, Any] = {}
    whose: dict[str, str] = {}
    for branch, update in updates.items():
        for key, value in update.items():
            if key in found and not same(found[key], value):
                if on_conflict == "error":
                    raise Conflict(
                        f"the branches {whose[key]!r} and {branch!r} give different values of {key!r}: have them give "
                        'keys of their own, or choose Branches(..., on_conflict="first") or "last"'
                    )
                if on_conflict == "first":
                    continue
            found[key] = value
            whose.setdefault(key, branch)
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, also where comparing gives no plain answer (arrays): then they are not."""
    if one is other:
        return True
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:
        return False
