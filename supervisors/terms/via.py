"""Via: a name that another server resolves, as `{:via, Registry, {name, key}}` in Elixir."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from supervisors.terms.errors import SpecError
from supervisors.terms.showing import shown


@dataclass(frozen=True)
class Via:
    """A target of calls, or a child's name, that the server registered as `name` resolves.

    It is asked ("resolve", key) → Ref or None, and to start under such a name ("register_via", key, ref, value) →
    None, or the Ref that has it. Registries and partition supervisors answer these.

    Args:
        name: under which the resolving server is registered on the node.
        key: what it knows the process by.
        value: kept with the key by a registry, when a child is started under this name.

    Raises:
        SpecError: `name` is not a non-empty text.
    """

    name: str
    key: Any
    value: Any = None

    def __post_init__(self) -> None:
        """Refuse what is no name."""
        if not isinstance(self.name, str) or not self.name:
            raise SpecError.of("Via.name", self.name, "a non-empty text, the name of the server that resolves the key")
        object.__setattr__(self, "name", str.__str__(self.name))

    def __str__(self) -> str:
        """Return it as people write it."""
        return f"{self.name}[{shown(self.key, 60)}]"
