"""What a ChildSpec can start: a class that is a behaviour. GenServer is the one there is."""

from __future__ import annotations


class Behaviour:
    """Marks the classes that a process can be started with."""

    __slots__ = ()
