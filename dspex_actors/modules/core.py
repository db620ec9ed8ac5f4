"""Which modules there are, which versions each has, and which one answers. Pure: a change is worked out, written down
by who asked for it, and only then taken over."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dspex_actors.errors import ConfigError

#: So many versions of a module are kept, and beside them the current one and those that still answer calls.
MOST_VERSIONS = 100
#: So many orders are remembered: who asks again after a crash is told what was done.
MOST_ORDERS = 64


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a module.

    Args:
        number: from 1.
        program: digest of its pickle.
        around: digest of what holds where it runs.
        followed: the version that answered when this one was made; None: none did.
        at: when it was made, seconds since 1970.
        note: what was said about it.
    """

    number: int
    program: str
    around: str
    followed: int | None
    at: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Module:
    """A module.

    Args:
        id: its name.
        current: the number of the version that answers.
        last: the highest number that a version of it has had.
        versions: by number, ascending.
        about: plain data.
        orders: the tokens of the last orders, oldest first, and the version that each has made the current one.
    """

    id: str
    current: int
    last: int
    versions: Mapping[int, Version]
    about: Mapping[str, Any] = field(default_factory=dict)
    orders: tuple[tuple[str, int], ...] = ()

    @property
    def now(self) -> Version:
        """The version that answers."""
        return self.versions[self.current]

    def done(self, token: str) -> int | None:
        """Return the version that an order has made the current one; None: it was not carried out."""
        return dict(self.orders).get(token)


class Table:
    """All modules of a node."""

    def __init__(self) -> None:
        """Begin without any."""
        self.modules: dict[str, Module] = {}

    def get(self, id_: str) -> Module:
        """Return a module.

        Raises:
            ConfigError: there is none.
        """
        found = self.modules.get(id_)
        if found is None:
            there = ", ".join(sorted(self.modules)[:20]) or "none"
            raise ConfigError(f"there is no module {id_!r:.80}: the node serves {there}; system.modules.create(...)")
        return found

    def created(self, id_: str, made: Version, about: Mapping[str, Any], token: str) -> Module:
        """Return a new module.

        Raises:
            ConfigError: there is one of this id.
        """
        if id_ in self.modules:
            raise ConfigError(
                f"the module {id_!r:.80} is there already: update_module(id, program) gives it another program"
            )
        first = replace(made, number=1, followed=None)
        return Module(id_, 1, 1, {1: first}, dict(about), ((token, 1),))

    def updated(self, id_: str, made: Version, token: str, busy: Collection[int] = ()) -> Module:
        """Return a module with one more version, which answers from now on.

        Args:
            id_: of the module.
            made: the version; its number and which one it follows are filled in.
            token: of the order.
            busy: versions that answer calls now.

        Raises:
            ConfigError: there is no such module.
        """
        before = self.get(id_)
        number = before.last + 1
        versions = {**before.versions, number: replace(made, number=number, followed=before.current)}
        keep = {*sorted(versions)[-MOST_VERSIONS:], *busy}
        versions = {each: version for each, version in versions.items() if each in keep}
        orders = (*before.orders, (token, number))[-MOST_ORDERS:]
        return replace(before, current=number, last=number, versions=versions, orders=orders)

    def rolled_back(self, id_: str, number: int | None, token: str) -> Module:
        """Return a module whose earlier version answers from now on.

        Args:
            id_: of the module.
            number: of the version; None: the one that the current one has followed.
            token: of the order.

        Raises:
            ConfigError: there is no such module, or version.
        """
        before = self.get(id_)
        if number is None:
            number = before.now.followed
            if number is None:
                raise ConfigError(f"the module {id_!r:.80} has no version before {before.current}, its first one")
        if number not in before.versions:
            there = ", ".join(map(str, sorted(before.versions)[-20:]))
            raise ConfigError(
                f"the module {id_!r:.80} has no version {number} (any more): it has {there}; roll_back(id, version)"
            )
        orders = (*before.orders, (token, number))[-MOST_ORDERS:]
        return replace(before, current=number, orders=orders)

    def take(self, module: Module) -> None:
        """Let a module be as it was written down."""
        self.modules[module.id] = module

    def drop(self, id_: str) -> None:
        """Forget a module."""
        self.modules.pop(id_, None)
