"""Whether a node is down: decided from what was heard of it and when. Pure; time is a parameter."""

from __future__ import annotations

#: A node is asked for a sign of life this often, in seconds.
BEAT_SECONDS = 1.0
#: A node of which nothing has been heard for this many seconds is down.
SILENT_SECONDS = 5.0
#: So is one whose address refuses connections for this long: the daemon holds the door's socket for as long as its node
#: lives, also while door or node are being restarted, so a refusal is no accident.
REFUSED_SECONDS = 0.3
#: A door that is lost is dialled again after these many seconds, the last one over and over.
PAUSES = (0.05, 0.1, 0.2, 0.4)
#: A beat that is later than this by our own fault (a handler that blocks the loop) says nothing about the node.
LATE_SECONDS = 0.25


class Pulse:
    """What is known of one node's life.

    Args:
        now: when it was first dialled; all times in seconds, monotonic.
    """

    def __init__(self, now: float) -> None:
        """Give it the benefit of the doubt."""
        self._heard = now
        self._due = now + BEAT_SECONDS
        self._refused: float | None = None
        self._tries = 0

    def heard(self, now: float) -> None:
        """Take note of a sign of life, whatever it was."""
        self._heard = now
        self._refused = None
        self._tries = 0

    def beat(self, now: float) -> bool:
        """Return whether the node is up as far as one can tell; to be asked every `BEAT_SECONDS`."""
        late = now - self._due
        if late > LATE_SECONDS:  # while we did not listen, nothing could be heard
            self._heard += late
        self._due = now + BEAT_SECONDS
        return not self._silent(now)

    def lost(self, now: float, refused: bool) -> float | None:
        """Say what to do about a connection that was refused, or lost in any other way.

        Returns:
            After how many seconds to dial again; None: the node is down.
        """
        self._refused = (now if self._refused is None else self._refused) if refused else None
        if self._silent(now) or (self._refused is not None and now - self._refused >= REFUSED_SECONDS):
            return None
        pause = PAUSES[min(self._tries, len(PAUSES) - 1)]
        self._tries += 1
        return pause

    def _silent(self, now: float) -> bool:
        # Beats are a little less exact than the clock: half of one keeps the promise of `SILENT_SECONDS`.
        return now - self._heard > SILENT_SECONDS - BEAT_SECONDS / 2
