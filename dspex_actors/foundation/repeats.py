"""Errors that come again and again: the traceback of each is logged once, then how often it came."""

from __future__ import annotations

import logging
import traceback

#: So many different ones are known at a time.
MOST_KNOWN = 100


class Repeats:
    """The errors of one function of a user's, which is called again and again.

    Args:
        log: where to.
    """

    def __init__(self, log: logging.Logger) -> None:
        """Begin without any."""
        self._log = log
        self._seen: dict[tuple[object, ...], int] = {}

    def log(self, error: BaseException, message: str, *, level: int = logging.ERROR, last: bool = False) -> None:
        """Log that it has failed: with the traceback where this one is new; else a line at the 10th, 100th, ... time.

        Args:
            error: what it has raised.
            message: what has failed, in words.
            level: of the entry.
            last: there will be no other one: it is logged in any case.
        """
        frames = traceback.extract_tb(error.__traceback__)
        key = (type(error), *((frame.filename, frame.lineno) for frame in frames))
        if key not in self._seen and len(self._seen) >= MOST_KNOWN:
            self._seen.clear()
        count = self._seen[key] = self._seen.get(key, 0) + 1
        if count == 1:
            self._log.log(level, "%s", message, exc_info=error)
        elif last or str(count).strip("0") == "1":
            try:
                text = str(error)
            except Exception:  # of somebody else's making
                text = "?"
            told = " ".join(f"{type(error).__name__}: {text}".split())[:300]
            self._log.log(level, "%s; as before, the %dth time: %s", message, count, told)
