"""The names by which ecosystems, and the members of one, find each other on a node."""

from __future__ import annotations

from typing import Any, NamedTuple

from dspex_actors.errors import ConfigError

#: In the place of a role: the child of an ecosystem's supervisor that ends it with its owner.
OWNER = ":owner"

_PREFIX = "ecosystem"
#: Longest kind, id and role.
_CHARACTERS = 80


class Place(NamedTuple):
    """Where a member belongs.

    Args:
        kind: of the ecosystem.
        id: of the ecosystem, among those of its kind.
        role: of the member; empty for the ecosystem itself.
    """

    kind: str
    id: str
    role: str = ""

    @property
    def name(self) -> str:
        """The name that is registered on the node."""
        return ":".join((_PREFIX, *self[: 3 if self.role else 2]))

    @property
    def child(self) -> str:
        """The id under the branch."""
        return f"{self.kind}:{self.id}"

    def at(self, role: str) -> Place:
        """Return the place of a member of the same ecosystem."""
        return self._replace(role=role)


def place_of(name: object) -> Place | None:
    """Return the place that a registered name is of; None: it is none of an ecosystem's."""
    parts = name.split(":") if isinstance(name, str) else []
    return Place(*parts[1:]) if len(parts) in (3, 4) and parts[0] == _PREFIX else None


def check_place(key: Any) -> Place:
    """Return the place of the ecosystem (kind, id).

    Raises:
        ConfigError: it is no pair of two words.
    """
    if not isinstance(key, tuple | list) or len(key) != 2:
        raise ConfigError(f'the ecosystem is invalid: got {key!r:.100}, expected a pair of two texts: ("kind", "id")')
    return Place(check_word("kind", key[0]), check_word("id", key[1]))


def check_word(what: str, word: Any) -> str:
    """Return a kind, id or role.

    Raises:
        ConfigError: it is no text of 1 to 80 printable characters without ":" and "/", or has a space at an end.
    """
    if (
        not isinstance(word, str)
        or not 1 <= len(word) <= _CHARACTERS
        or not word.isprintable()
        or word != word.strip()
        or any(mark in word for mark in ":/")
    ):
        raise ConfigError(
            f"the {what} of an ecosystem is invalid: got {word!r:.100}, expected 1 to {_CHARACTERS} printable "
            'characters without ":" and "/", no space at an end'
        )
    return word
