"""Futures that may be done already: cancelled in this very turn of the loop, say."""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


def settle(future: asyncio.Future[T], value: T) -> None:
    """Give a future its result, unless it is done."""
    if not future.done():
        future.set_result(value)


def refuse(future: asyncio.Future[T], error: Exception) -> None:
    """Give a future an error in the place of a result, unless it is done."""
    if not future.done():
        future.set_exception(error)
