"""What a pool's core remembers of a worker and of a checkout."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any


@dataclass
class Worker:
    """A worker. `state`: new, idle, out or checking; `checked`, `since`: when it was checked, and last came back."""

    state: str
    checked: float
    since: float
    lease: str | None = None


@dataclass
class Checkout:
    """A checkout that waits since `since`, or has a worker."""

    borrower: Hashable
    since: float
    work_timeout: float | None
    deadline: float | None = None
    worker: Any = None
