"""A server of a script uses functions of the script in a process pool (multiprocessing, concurrent.futures).

They have come to the node by value, so the pool's process finds them under no name: they go there by value as well.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any

from supervisors.wire import pickles


def has_come_by_value(obj: Any) -> bool:
    """Whether a function or a class is not found under its name in this process."""
    found: Any = sys.modules.get(getattr(obj, "__module__", None) or "")
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is not obj


def teach_pools() -> None:
    """Have multiprocessing of this process send by value what is not found under its name."""
    from multiprocessing.reduction import ForkingPickler

    if "reducer_override" not in vars(ForkingPickler):
        setattr(ForkingPickler, "reducer_override", _reduce)  # noqa: B010 - the stub has it as a method


def _reduce(pickler: Any, obj: Any) -> Any:
    if isinstance(obj, FunctionType | type) and has_come_by_value(obj):
        return _open, (pickles.dumps(obj),)
    return NotImplemented


def _open(blob: bytes) -> Any:
    teach_pools()  # a pool's process sends results back
    return pickles.loads(blob)
