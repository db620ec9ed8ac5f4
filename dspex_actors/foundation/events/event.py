"""`Event`, the base of what happened.

::

    class ToolUsed(dspex.Event):
        tool_name: str
        milliseconds: float = 0.0

    system.events.emit(ToolUsed(tool_name="search"))
    system.events.query(type=ToolUsed, where={"tool_name": "search"})
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from dspex_actors.foundation.ids import new_id

#: The fields that every event has; those that a class adds are stored as its data.
COMMON = ("id", "type", "at", "correlation_id", "parent_id", "node", "actor", "data")

#: The classes that are known here, by the type of their events.
_classes: dict[str, type[Event]] = {}


class Event(BaseModel):
    """Something that happened. Subclasses add fields; each has a `version`, raised when its fields change.

    An event that is read is of the class that has its type here: of two classes with one type, the one that was defined
    last. Where none has, where it was written by a later version, or where its fields do not fit, it is an `Event` with
    all its fields in `data`. A field that a later version adds needs a default, so that older events fit.

    Args:
        id: of the event; unique.
        type: what kind it is; a subclass has the name of the class, or its `kind`.
        at: wall-clock seconds since 1970.
        correlation_id: what it belongs to; None: the open operation's, when it is emitted.
        parent_id: the event or operation that it came from; None: the open operation's.
        node: where it happened; filled in when it is emitted.
        actor: the process there; filled in, too.
        data: anything else, JSON data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The version of a subclass's fields.
    version: ClassVar[int] = 1
    #: The type's name, where it is not the class's.
    kind: ClassVar[str | None] = None

    id: str = Field(default_factory=new_id)
    type: str = ""
    at: float = Field(default_factory=time.time)
    correlation_id: str | None = None
    parent_id: str | None = None
    node: str | None = None
    actor: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)

    _stored_version: int | None = PrivateAttr(default=None)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Make the class known as that of its type."""
        super().__pydantic_init_subclass__(**kwargs)
        _classes[cls.type_name()] = cls

    @classmethod
    def type_name(cls) -> str:
        """Return what events of this class have as their type."""
        return cls.__dict__.get("kind") or cls.__name__

    @property
    def schema_version(self) -> int:
        """The version of the fields that it holds: its class's, or that of the class that it was written by."""
        return type(self).version if self._stored_version is None else self._stored_version

    def model_post_init(self, context: Any) -> None:
        """Fill in the type."""
        super().model_post_init(context)
        if not self.type:
            object.__setattr__(self, "type", self.type_name())


def class_of(type_name: str) -> type[Event] | None:
    """Return the class that events of a type have here; None: none is known."""
    return _classes.get(type_name)


def types_of(cls: type[Event]) -> list[str]:
    """Return the types of a class and of its subclasses."""
    return [name for name, known in _classes.items() if issubclass(known, cls)]
