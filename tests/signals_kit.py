"""Signals for all processes of a node at once."""

import contextlib
import os


def signal_all(pids, number, daemon=None):
    """Send a signal to processes, the daemon first; one that has ended meanwhile is passed over."""
    for pid in sorted(pids, key=lambda pid: pid != daemon):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
