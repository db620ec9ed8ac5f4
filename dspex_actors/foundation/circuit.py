"""A circuit: what fails again and again is left alone for a while, then tried by one. Pure; time is a parameter.

Closed, everything is let through, and what fails is counted. Open, nothing is let through before the recovery time is
over. Then it is half-open: one call, the *probe*, is granted to whoever asks first. What it comes to closes the
circuit or opens it again, for longer.

There is one owner of a circuit, who asks it; others mirror what it says.

Source: Michael Nygard, "Release It!", 2007, chapter 5 (the pattern); OTP's `fuse` (one owner); gobreaker and
resilience4j (rate over a window with a minimum of calls).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from dspex_actors.errors import ConfigError, LMError, Overloaded, StreamTruncated, Timeout
from dspex_actors.foundation.checks import is_whole

State = Literal["closed", "open", "half_open"]
#: Two requests met: said by a server that is well, though asking again helps.
_CONFLICT = 409
#: A window is counted in so many parts; a whole part at a time is forgotten.
_PARTS = 10


@dataclass(frozen=True, slots=True)
class CircuitSettings:
    """When a circuit opens, and for how long.

    Args:
        failure_threshold: failures in a row that open it; None: they do not.
        recovery_time: seconds for which it lets nothing through.
        growth: after each probe that failed the recovery time is so many times as long.
        max_recovery_time: but never longer than this, in seconds. At least `recovery_time` holds.
        failure_rate: share of failures among the calls of the window, above 0, at most 1, that opens it; None: no share
            does.
        window: seconds over which the share is taken.
        min_calls: with fewer calls in the window no share opens it.
        half_open_calls: probes that must succeed, one after the other, before it closes.
        probe_time: a probe whose outcome nobody tells is granted anew after so many seconds.
        failure_time: failures in a row open it only once they have gone on for so many seconds: hundreds of connections
            that break at the same moment are one event.
    """

    failure_threshold: int | None = 10
    recovery_time: float = 5.0
    growth: float = 2.0
    max_recovery_time: float = 60.0
    failure_rate: float | None = None
    window: float = 60.0
    min_calls: int = 20
    half_open_calls: int = 1
    probe_time: float = 60.0
    failure_time: float = 0.0

    @classmethod
    def from_dict(cls, given: Any, what: str = "circuit", over: CircuitSettings | None = None) -> CircuitSettings:
        """Return the settings of a dict that a user wrote.

        Args:
            given: names and values; what is not there is as in `over`.
            what: how an error calls it.
            over: what holds where nothing is given; None: the defaults.

        Raises:
            ConfigError: it is no such dict; names the setting, what was given and what is legal.
        """
        if isinstance(given, CircuitSettings):
            return given
        if not isinstance(given, Mapping):
            raise ConfigError(f"{what} is invalid: got {given!r:.80}, expected a dict of {', '.join(_CHECKS)}")
        for name, value in given.items():
            if name not in _CHECKS:
                raise ConfigError(f"{what} is invalid: got {name!r:.80}, expected {', '.join(_CHECKS)}")
            is_legal, legal = _CHECKS[name]
            if not is_legal(value):
                raise ConfigError(f"{what}: {name} is invalid: got {value!r:.80}, expected {legal}")
        if "failure_threshold" in given:  # who names the number means it
            given = {"failure_time": 0.0, **given}
        made = cls(**{**(over or cls()).to_dict(), **given})
        if made.failure_threshold is None and made.failure_rate is None:
            raise ConfigError(
                f"{what} is invalid: got neither failure_threshold nor failure_rate, expected one of them"
            )
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return them as plain data."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def recovery(self, openings: int) -> float:
        """Return for how many seconds it is open, the so many-th time in a row, from 1."""
        most = max(self.recovery_time, self.max_recovery_time)
        return min(most, self.recovery_time * self.growth ** min(openings - 1, 64))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _seconds(value: Any) -> bool:
    return _is_number(value) and 0 < value <= 86_400


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "failure_threshold": (lambda value: value is None or is_whole(value, 1), "a whole number of at least 1, or None"),
    "recovery_time": (_seconds, "seconds above 0, at most 86400"),
    "growth": (lambda value: _is_number(value) and 1 <= value <= 100, "a number from 1 to 100"),
    "max_recovery_time": (_seconds, "seconds above 0, at most 86400"),
    "failure_rate": (
        lambda value: value is None or (_is_number(value) and 0 < value <= 1),
        "a share above 0, at most 1, or None",
    ),
    "window": (_seconds, "seconds above 0, at most 86400"),
    "min_calls": (lambda value: is_whole(value, 1), "a whole number of at least 1"),
    "half_open_calls": (lambda value: is_whole(value, 1), "a whole number of at least 1"),
    "probe_time": (_seconds, "seconds above 0, at most 86400"),
    "failure_time": (lambda value: value == 0 or _seconds(value), "seconds of at least 0, at most 86400"),
}


@dataclass(frozen=True, slots=True)
class Grant:
    """A call may go.

    Args:
        probe: the number of the probe that it is; None: it is none.
    """

    probe: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A call may not go.

    Args:
        retry_after: seconds until it is worth to ask again.
    """

    retry_after: float


@dataclass(frozen=True, slots=True)
class Change:
    """A circuit is in another state.

    Args:
        state: in which.
        failures: that led to it, in a row.
        seconds: for which it lets nothing through; 0 where it does.
        reason: what the last failure said.
    """

    state: State
    failures: int = 0
    seconds: float = 0.0
    reason: str = ""


class Circuit:
    """One circuit.

    Args:
        settings: when it opens, and for how long.
        probes: probes are numbered on from here: those of an owner before this one have other numbers.
    """

    def __init__(self, settings: CircuitSettings | None = None, *, probes: int = 0) -> None:
        """Begin closed."""
        self.settings = settings or CircuitSettings()
        self.state: State = "closed"
        #: Goes up whenever it opens or closes: what was sent in another epoch says nothing of this one.
        self.epoch = 0
        #: Failures since the last success.
        self.failures = 0
        self.reason = ""
        #: When the first of them was told.
        self._failing_since = 0.0
        self._window = _Window()
        self._open_until = 0.0
        self._openings = 0
        self._probe: tuple[int, float] | None = None
        self._probes = probes
        self._succeeded = 0
        self._changes: list[Change] = []

    def admit(self, now: float, probe_time: float = 0.0) -> Grant | Refused:
        """Say whether a call may go, and whether it is the probe; who is granted it tells `ended` or `given_up`.

        Args:
            now: monotonic seconds.
            probe_time: a probe has so many seconds, if that is longer than the setting.
        """
        if self.state == "closed":
            return Grant()
        if (wait := self.wait(now)) > 0:
            return Refused(wait)
        if self.state != "half_open":
            self.state, self._succeeded = "half_open", 0
            self._changes.append(Change("half_open", self.failures, reason=self.reason))
        self._probes += 1
        self._probe = (self._probes, now + max(probe_time, self.settings.probe_time))
        return Grant(self._probes)

    def wait(self, now: float) -> float:
        """Return the seconds until `admit` may grant something, 0 for at once: what is known now."""
        if self.state == "closed":
            return 0.0
        until = self._open_until if self._probe is None else self._probe[1]
        return max(0.0, until - now)

    @property
    def probe(self) -> int | None:
        """The number of the probe that is under way; None: there is none."""
        return None if self._probe is None else self._probe[0]

    def ended(self, now: float, *, failed: bool, probe: int | None = None, reason: str = "") -> None:
        """Take in how a call ended.

        Args:
            now: monotonic seconds.
            failed: whether it counts as a failure.
            probe: its number if it was the probe.
            reason: what the failure says.
        """
        if probe is not None:
            self._probe_ended(now, failed, probe, reason)
        elif self.state == "closed":  # what was under way when it opened says nothing new
            self.told(now, 0 if failed else 1, 1 if failed else 0, reason=reason)

    def told(
        self, now: float, answered: int, failed: int, *, in_row: int | None = None, reason: str = "", epoch: int = -1
    ) -> None:
        """Take in how several calls ended that were no probes.

        Args:
            now: monotonic seconds.
            answered: how many did not count as failures.
            failed: how many did.
            in_row: failures after the last that was answered; None: all, where none was answered, else none.
            reason: what the last failure says.
            epoch: when they were sent; -1: in this one.
        """
        if self.state != "closed" or -1 < epoch < self.epoch:
            return
        self.epoch = max(self.epoch, epoch)  # the owner before this one had opened it, and closed it again
        before, self.failures = self.failures, (in_row or 0) if answered else self.failures + failed
        if answered or not before:
            self._failing_since = now
        if self.settings.failure_rate is not None:
            self._window.add(now, self.settings.window, answered, failed)
        if failed:
            self.reason = reason or self.reason
            if self._is_too_much(now):
                self._open(now)

    def given_up(self, now: float, probe: int) -> None:
        """Take note that a probe will never tell: whoever held it died, or was cancelled. The next is granted anew."""
        if self._probe is not None and self._probe[0] == probe:
            self._probe = None
            self._open_until = now

    def adopt(self, now: float, epoch: int, failures: int, reason: str) -> None:
        """Take over, as the successor of an owner that died, that it had opened the circuit.

        Args:
            now: monotonic seconds.
            epoch: of the circuit, as one who mirrors it knows it.
            failures: that led to it.
            reason: what the last failure said.
        """
        if self.state == "closed" and epoch > self.epoch:
            self.epoch = epoch
            self.state, self._openings, self._open_until = "open", 1, now
            self.failures, self.reason = failures, reason

    def kept(self) -> list[Any]:
        """Return its state as plain data, for whoever takes over."""
        counts = [self.failures, self.reason, self._openings, self._probes, self._succeeded]
        return [self.state, self.epoch, self._open_until, self._probe, *counts]

    def restore(self, kept: Sequence[Any]) -> None:
        """Go on where another one has ended, with the same clock; a probe that was under way still is."""
        self.state, self.epoch, self._open_until, probe, *counts = kept
        self._probe = None if probe is None else (probe[0], probe[1])
        self.failures, self.reason, self._openings, probes, self._succeeded = counts
        self._probes = max(self._probes, probes)

    def changes(self) -> list[Change]:
        """Return what has changed since the last time, oldest first."""
        changes, self._changes = self._changes, []
        return changes

    def _is_too_much(self, now: float) -> bool:
        settings = self.settings
        has_lasted = now - self._failing_since >= settings.failure_time
        if settings.failure_threshold is not None and self.failures >= settings.failure_threshold and has_lasted:
            return True
        if settings.failure_rate is None:
            return False
        answered, failed = self._window.counts(now, settings.window)
        calls = answered + failed
        return calls >= settings.min_calls and failed >= settings.failure_rate * calls

    def _probe_ended(self, now: float, failed: bool, probe: int, reason: str) -> None:
        is_current = self._probe is not None and self._probe[0] == probe
        if self.state != "half_open" or (failed and not is_current):
            return  # an earlier one, which was granted anew meanwhile
        if is_current:
            self._probe = None
        if failed:
            self.failures += 1
            self.reason = reason or self.reason
            self._open(now)
            return
        self._succeeded += 1
        self._open_until = now
        if self._succeeded >= self.settings.half_open_calls:
            self._close()

    def _open(self, now: float) -> None:
        self.state = "open"
        self.epoch += 1
        self._openings += 1
        self._probe = None
        seconds = self.settings.recovery(self._openings)
        self._open_until = now + seconds
        self._changes.append(Change("open", self.failures, seconds, self.reason))

    def _close(self) -> None:
        self.state = "closed"
        self.epoch += 1
        self.failures = self._openings = 0
        self.reason = ""
        self._probe = None
        self._window = _Window()
        self._changes.append(Change("closed"))


class _Window:
    """Calls of the last seconds, in parts."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        #: When a part began, and how many of its calls were answered and failed.
        self._parts: deque[list[float]] = deque()

    def add(self, now: float, window: float, answered: int, failed: int) -> None:
        if not self._parts or now - self._parts[-1][0] >= window / _PARTS:
            self._parts.append([now, 0, 0])
        self._parts[-1][1] += answered
        self._parts[-1][2] += failed

    def counts(self, now: float, window: float) -> tuple[float, float]:
        while self._parts and now - self._parts[0][0] > window:
            self._parts.popleft()
        return sum(part[1] for part in self._parts), sum(part[2] for part in self._parts)


def counts(error: LMError | None) -> bool:
    """Tell whether an LM's error is a failure of the deployment: it is away, overloaded or too slow.

    A limit on speed, a refused key, a request or content that is refused, are answers of a server that is well.
    """
    return isinstance(error, Overloaded | Timeout | StreamTruncated) and error.status != _CONFLICT
