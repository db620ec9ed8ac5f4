"""A dictionary of plain rows that knows about how many bytes they are when they are packed."""

from __future__ import annotations

from typing import Any, TypeVar

R = TypeVar("R", bound=tuple[Any, ...])
#: What each number, and the frame of each row, counts.
_NUMBER = 9


class Weighed(dict[str, R]):
    """Rows by name; only these ways to change it are there: `[name] = row`, `del`, `pop`."""

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self.weight = 0

    def __setitem__(self, name: str, row: R) -> None:
        """Put a row in the place of the one before."""
        if (before := self.get(name)) is not None:
            self.weight -= _weight(name, before)
        self.weight += _weight(name, row)
        super().__setitem__(name, row)

    def __delitem__(self, name: str) -> None:
        """Take a row away."""
        self.weight -= _weight(name, self[name])
        super().__delitem__(name)

    def pop(self, name: str, *default: Any) -> Any:
        """Take a row away and return it."""
        if name in self:
            self.weight -= _weight(name, self[name])
        return super().pop(name, *default)


def _weight(name: str, row: tuple[Any, ...]) -> int:
    return _NUMBER + sum(map(_bytes, (name, *row)))


def _bytes(part: Any) -> int:
    match part:
        case bytes():
            return len(part) + _NUMBER
        case str():
            return len(part.encode(errors="surrogatepass")) + _NUMBER
    return _NUMBER
