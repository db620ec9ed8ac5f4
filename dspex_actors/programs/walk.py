"""Walking over a program: which predictors and sub-programs there are, and the paths to them.

Predictors are found wherever they stand: as attributes, in lists, tuples and dicts, in sub-programs. Their paths
(`search`, `answer.predict`, `steps[0]`, `tools['web']`) are DSPy's; saved programs use them.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from dspex_actors.signatures.signature import Signature


class Part:
    """Base of what a program is made of: programs and predictors."""

    #: True on an optimised program: inside another one, optimisers leave it alone and `named_predictors`
    #: skips it.
    _compiled: bool = False

    #: Who hears of its calls (`BaseCallback`s), beside those of the settings.
    callbacks: Sequence[Any] = ()

    #: Predict is both a program and a parameter of programs.
    is_predictor: ClassVar[bool] = False


class Predictor(Protocol):
    """What programs, optimisers and saved states know of a predictor."""

    signature: type[Signature]
    config: dict[str, Any]
    demos: list[Any]
    lm: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it and wait for its prediction."""
        ...

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """Run it from inside an event loop."""
        ...

    def set_lm(self, lm: Any) -> None:
        """Have it ask this LM."""
        ...

    def reset(self) -> None:
        """Forget demos, traces and LM."""
        ...

    def dump_state(self) -> dict[str, Any]:
        """Return demos, instructions and labels as JSON data."""
        ...

    def take_state(self, part: Mapping[str, Any], signature: type[Signature], lm: Any) -> None:
        """Take over a state that was checked, with what was made of it."""
        ...


def predictors_of(program: Part) -> list[tuple[str, Predictor]]:
    """Return (path, predictor) pairs in the order of the attributes; each predictor once.

    Args:
        program: where to begin; a bare predictor is its own only one, under the path `self`.
    """
    if program.is_predictor:
        return [("self", program)]  # type: ignore[list-item]
    found: list[tuple[str, Predictor]] = []
    _collect(program, "", found, set())
    return found


def parts_of(program: Part, type_: type, skip_compiled: bool) -> Iterator[tuple[str, Part]]:
    """Walk over a program and the programs in it, nearest first.

    Args:
        program: where to begin, under the path `self`.
        type_: only those of this class.
        skip_compiled: leave out optimised ones, and what is in them.

    Yields:
        (path, program), each program once.
    """
    queue: deque[tuple[str, Any]] = deque([("self", program)])
    seen: set[int] = set()
    while queue:
        path, item = queue.popleft()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Part):
            if isinstance(item, type_):
                yield path, item
            if not item.is_predictor and not (skip_compiled and item._compiled):
                queue.extend((f"{path}.{name}", value) for name, value in vars(item).items())
        elif isinstance(item, list | tuple):
            queue.extend((f"{path}[{place}]", value) for place, value in enumerate(item))
        elif isinstance(item, dict):
            queue.extend((f"{path}[{key}]", value) for key, value in item.items())


def replace_in(program: Part, made: Mapping[int, Predictor]) -> None:
    """Put other predictors in the places of a program's, wherever they stand.

    Args:
        program: the program; changed.
        made: the id of each predictor to replace → the new one.
    """
    for name, value in list(vars(program).items()):
        setattr(program, name, _replaced(value, made))


def copied(value: Any, memo: dict[int, Any]) -> Any:
    """Return a deep copy; of what cannot be copied, itself.

    A container with a lock or a connection in it is copied all the same, so that no predictor beside it is shared.

    Args:
        value: what to copy.
        memo: the copies made so far, by id, as `copy.deepcopy` keeps them.
    """
    before = dict(memo)
    try:
        return copy.deepcopy(value, memo)
    except Exception:
        # Halves of copies must not be taken for whole ones.
        memo.clear()
        memo.update(before)
    if type(value) is list:
        twin: Any = memo.setdefault(id(value), [])
        twin.extend(copied(item, memo) for item in value)
        return twin
    if type(value) is dict:
        twin = memo.setdefault(id(value), {})
        twin.update((key, copied(item, memo)) for key, item in value.items())
        return twin
    if type(value) is tuple:
        return tuple(copied(item, memo) for item in value)
    return value


def _collect(item: Any, path: str, found: list[tuple[str, Predictor]], seen: set[int]) -> None:
    """Walk as DSPy names: `.` between attributes, `[0]` and `['key']` for members; compiled sub-programs
    are closed."""
    if isinstance(item, Part):
        if id(item) in seen or (path and item._compiled and not item.is_predictor):
            return
        seen.add(id(item))
        if item.is_predictor:
            found.append((path, item))  # type: ignore[arg-type]
            return
        for name, value in vars(item).items():
            _collect(value, f"{path}.{name}" if path else name, found, seen)
    elif isinstance(item, list | tuple | dict):
        if id(item) in seen:
            return
        seen.add(id(item))
        members = item.items() if isinstance(item, dict) else enumerate(item)
        for key, value in members:
            _collect(value, f"{path}['{key}']" if isinstance(item, dict) else f"{path}[{key}]", found, seen)


def _replaced(value: Any, made: Mapping[int, Predictor]) -> Any:
    if id(value) in made:
        return made[id(value)]
    if isinstance(value, Part):
        if not value.is_predictor:
            replace_in(value, made)
        return value
    if type(value) in (list, tuple):
        return type(value)(_replaced(inner, made) for inner in value)
    if type(value) is dict:
        return {key: _replaced(inner, made) for key, inner in value.items()}
    return value
