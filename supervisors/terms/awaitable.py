"""A function of a user may be `def` or `async def`: one way to take what it returns."""

from __future__ import annotations

import inspect
from typing import Any


async def maybe_await(value: Any) -> Any:
    """Return `value`, or what it gives when it is awaited."""
    return await value if inspect.isawaitable(value) else value
