"""Every validator."""

from __future__ import annotations

from typing import Any

from supervisors.terms.errors import SpecError


def check_timeout(timeout: Any) -> None:
    """Refuse what is no time to wait.

    Raises:
        SpecError: neither None nor a number of seconds that is not negative.
    """
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is not None and not (number and timeout >= 0):
        raise SpecError(f"timeout={timeout!r}: expected seconds >= 0, or None for no limit")


def check_shutdown(shutdown: Any) -> None:
    """Refuse what is no way to stop a process."""
    from supervisors.genserver import GenServer
    from supervisors.terms.spec import ChildSpec

    ChildSpec("task", GenServer, shutdown=shutdown)  # the one place that knows what is legal
