"""The marker of the classes that a ChildSpec can start. GenServer is the only one."""

from __future__ import annotations


class Behaviour:
    """Marks the classes that a process can be started with."""

    __slots__ = ()
