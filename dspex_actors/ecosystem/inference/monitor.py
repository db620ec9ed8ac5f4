"""The performance monitor: latency, tokens and cost over windows, and alerts when a threshold is crossed."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

from dspex_actors.ecosystem.inference.alerts import Alert
from dspex_actors.ecosystem.inference.base import InferenceMember
from dspex_actors.ecosystem.inference.kinds import AlertFired
from dspex_actors.ecosystem.inference.messages import Conclusions
from dspex_actors.ecosystem.inference.windows import Windows
from dspex_actors.ecosystem.inside import ecosystem_of
from dspex_actors.foundation.bridge import in_thread
from dspex_actors.foundation.events.outlet import emit
from dspex_actors.observe.reporting import report_from_actor
from dspex_actors.runs.spec import load_code
from dspex_actors.workers.calling import maybe
from dspex_actors.workers.runner import error_record
from supervisors import Caller

#: Alerts are looked at this often, in seconds; figures are over this window where nobody asks for another one.
LOOK_SECONDS, WINDOW_SECONDS = 1.0, 60.0
#: So many actions may be under way, each for so many seconds; more are dropped and counted.
MOST_ACTIONS, ACTION_SECONDS = 8, 10.0


class PerformanceMonitor(InferenceMember):
    """Sums up what the coordinator tells, and fires alerts. Argument: packed list of alerts."""

    def init(self, alerts: bytes) -> None:
        """Begin with nothing."""
        self._alerts: list[Alert] = load_code(alerts)
        self._armed = [True] * len(self._alerts)
        keep = max([WINDOW_SECONDS, *(alert.window for alert in self._alerts)])
        self._windows = Windows(math.ceil(keep) + 1)
        self._actions: set[asyncio.Task[Any]] = set()
        self._fired = self._failed = self._dropped = 0
        self._last_failure: str | None = None
        self._events = report_from_actor(self)
        if self._alerts:
            self.send_after(LOOK_SECONDS, "look")

    def handle_cast(self, message: Any) -> None:
        """Take in how inferences ended."""
        if isinstance(message, Conclusions):
            self._windows.add(message.rows, time.monotonic())
        else:
            super().handle_cast(message)

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Show the figures: `("figures", seconds)`, or "stats"."""
        match request:
            case ("figures", float() | int() as window):
                return self._windows.figures(max(1.0, window), time.monotonic())
            case "stats":
                actions = {"fired": self._fired, "failed": self._failed, "dropped": self._dropped}
                return {
                    **self._windows.figures(WINDOW_SECONDS, time.monotonic()),
                    "alerts": actions | {"last_failure": self._last_failure},
                }
        return super().handle_call(request, caller)

    def handle_info(self, message: Any) -> None:
        """Look whether a threshold was crossed."""
        if message != "look":
            return
        now = time.monotonic()
        figures: dict[float, dict[str, float | None]] = {}
        for place, alert in enumerate(self._alerts):
            if alert.window not in figures:
                figures[alert.window] = self._windows.figures(alert.window, now)
            value = figures[alert.window][alert.metric]
            fires, self._armed[place] = alert.fires(value, is_armed=self._armed[place])
            if fires and value is not None:
                self._fire(alert, value)
        self.send_after(LOOK_SECONDS, "look")

    def _fire(self, alert: Alert, value: float) -> None:
        self._fired += 1
        place = ecosystem_of(self)
        ecosystem = f"{place.kind}:{place.id}"
        told = {"ecosystem": ecosystem, **alert.told(value)}
        if alert.action == "log":
            self.log.warning("an alert fired", **told)
        elif alert.action == "event":
            emit(
                AlertFired(
                    ecosystem=ecosystem,
                    metric=alert.metric,
                    value=value,
                    threshold=alert.threshold,
                    window=alert.window,
                )
            )
        elif len(self._actions) >= MOST_ACTIONS:
            self._dropped += 1
            self.log.warning("an alert fired, and its action was dropped: too many are under way", **told)
        else:
            self._act(posted(alert.url, told) if alert.url is not None else self._called(alert.action, told))

    def _act(self, action: Coroutine[Any, Any, None]) -> None:
        task = self.spawn(self._bounded(action))
        self._actions.add(task)
        task.add_done_callback(self._actions.discard)

    async def _bounded(self, action: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(ACTION_SECONDS):
                await action
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a user's function ends no monitor
            self._failed += 1
            record = error_record(error)
            self._last_failure = f"{record['type']}: {record['message']}"
            self.log.warning("the action of an alert failed", error=self._last_failure)

    @staticmethod
    async def _called(action: Any, told: dict[str, Any]) -> None:
        await maybe(await in_thread(lambda: action(told)))


async def posted(url: str, told: dict[str, Any]) -> None:
    """Send a webhook what is told.

    Raises:
        ConnectionError: it did not take it. Says whose it is, and not its whole address: many hold a key.
    """
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=told, allow_redirects=False) as answer,
        ):
            status = answer.status
    except (aiohttp.ClientError, OSError) as error:
        raise ConnectionError(
            f"the webhook at {urlsplit(url).hostname} cannot be asked: {type(error).__name__}"
        ) from None
    if status >= 300:
        raise ConnectionError(f"the webhook at {urlsplit(url).hostname} answered {status}, expected 2xx")
