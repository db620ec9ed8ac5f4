"""`Member`: what an ecosystem is made of; checked when it is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_actors.ecosystem.naming import Place, check_word
from dspex_actors.errors import ConfigError
from supervisors import ChildSpec, GenServer
from supervisors.errors import SpecError


@dataclass(frozen=True)
class Member:
    """A member of an ecosystem.

    Args:
        role: by which the others find it; each role once.
        server_class: a GenServer class; one of the user's script or notebook goes by value.
        args: positional arguments of its `init`.
        kwargs: keyword arguments of its `init`.
        restart: permanent - always restarted; transient - only when it ended abnormally; temporary - never.

    Raises:
        ConfigError: an argument is not legal; says which, and what is.
    """

    role: str
    server_class: type[GenServer]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    restart: str = "permanent"

    def __post_init__(self) -> None:
        """Refuse what cannot be started."""
        check_word("role", self.role)
        self.spec(Place("check", "check"))

    def spec(self, ecosystem: Place) -> ChildSpec:
        """Return how the ecosystem's supervisor starts it."""
        if not (isinstance(self.server_class, type) and issubclass(self.server_class, GenServer)):
            raise ConfigError(
                f"the server class of the member {self.role!r} is invalid: got {self.server_class!r:.100}, expected a "
                "class that inherits from supervisors.GenServer"
            )
        try:
            return ChildSpec(
                self.role,
                self.server_class,
                args=self.args,
                kwargs=dict(self.kwargs),
                restart=self.restart,
                name=ecosystem.at(self.role).name,
            )
        except (SpecError, TypeError, ValueError) as error:
            raise ConfigError(f"the member {self.role!r} is invalid: {error}") from None


def check_members(members: Any) -> tuple[Member, ...]:
    """Return the members.

    Raises:
        ConfigError: there is none, one is none, or a role is there twice.
    """
    if isinstance(members, Member | str) or not isinstance(members, Iterable):
        raise ConfigError(f"the members are invalid: got {members!r:.100}, expected a list of dspex.Member")
    found = tuple(members)
    for member in found:
        if not isinstance(member, Member):
            raise ConfigError(f"a member is invalid: got {member!r:.100}, expected a dspex.Member(role, ServerClass)")
    roles = [member.role for member in found]
    twice = sorted({role for role in roles if roles.count(role) > 1})
    if not found or twice:
        got = f"two members of the role {', '.join(twice)}" if twice else "none"
        raise ConfigError(f"the members are invalid: got {got}, expected one member for each role")
    return found
