"""Requests whose answers are waited for later: one by one, or whichever of many comes first.

::

    requests = RequestIds()
    for shard in shards:
        requests.add(node.send_request(shard, "count"), label=shard)
    while response := requests.receive_response(timeout=5.0):
        print(response.label, response.result())

As in OTP there are two ways to wait. `wait_response` may be repeated when its time is over: the request stays in
force. `receive_response` abandons what has not been answered by then: its reply will be dropped, wherever it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from typing import Any

from supervisors.client.door_client import DoorClient
from supervisors.client.threads import capped
from supervisors.terms.checks import check_timeout
from supervisors.terms.errors import CallFailed, CallTimeout, SupervisorsError
from supervisors.wire import values as wire


class Request:
    """A request that is under way; `Node.send_request` makes it."""

    def __init__(self, client: DoorClient, future: Future[Any]) -> None:
        """Belong to a connection."""
        self._client, self._future = client, future

    def done(self) -> bool:
        """Whether there is an answer (or an error) already."""
        return self._future.done()

    def wait_response(self, timeout: float | None = None, *, deadline: float | None = None) -> Any:
        """Return the reply; when the time is over the request stays in force, and this may be called again.

        Args:
            timeout: seconds from now; None: no limit.
            deadline: instead, a moment of `time.monotonic()`.

        Raises:
            CallTimeout: no answer yet.
            NoProcess, ServerExited, CallFailed, NodeDown: as for `Node.call`.
        """
        self._client.check_own()
        wait_for([self._future], remaining(timeout, deadline))
        if not self._future.done():
            raise CallTimeout("no answer yet; the request stays in force")
        return self.result()

    def receive_response(self, timeout: float | None = None, *, deadline: float | None = None) -> Any:
        """Return the reply; when the time is over the request is abandoned.

        Raises:
            CallTimeout: no answer in time; one that comes later is dropped.
            NoProcess, ServerExited, CallFailed, NodeDown: as for `Node.call`.
        """
        try:
            return self.wait_response(timeout, deadline=deadline)
        except CallTimeout:
            self.abandon()
            raise CallTimeout("no answer in time; the request is abandoned, its late reply is dropped") from None

    def result(self) -> Any:
        """Return the reply that has come, or raise the error."""
        if self._future.cancelled():
            raise CallFailed("this request was abandoned: it has no answer")
        return wire.open_value(self._future.result(0), "reply")

    def when_done(self, function: Callable[[Request], object]) -> None:
        """Call `function` with this request when there is an answer (or an error), at once if there is.

        It is called in the thread that reads all answers, and must not wait for anything.
        """
        self._future.add_done_callback(lambda _: function(self))

    def abandon(self) -> None:
        """Want no answer any more."""
        if not self._future.done():
            self._client.abandon(self._future)
            self._future.cancel()


@dataclass(frozen=True)
class Response:
    """One answered request of a collection, with the label that it was added with."""

    label: Any
    request: Request

    def result(self) -> Any:
        """Return the reply, or raise the error that came instead of one."""
        return self.request.result()

    @property
    def error(self) -> SupervisorsError | None:
        """The error that came instead of a reply, if one did."""
        error = self.request._future.exception(0)
        return error if isinstance(error, SupervisorsError) else None


class RequestIds:
    """A collection of requests under way."""

    def __init__(self) -> None:
        """Begin empty."""
        self._requests: dict[Request, Any] = {}

    def add(self, request: Request, label: Any = None) -> None:
        """Add a request; `label` comes back with its response."""
        self._requests[request] = label

    def __len__(self) -> int:
        """Return how many are in it."""
        return len(self._requests)

    def __iter__(self) -> Iterator[tuple[Request, Any]]:
        """Go through (request, label)."""
        return iter(list(self._requests.items()))

    def wait_response(
        self, timeout: float | None = None, *, deadline: float | None = None, delete: bool = True
    ) -> Response | None:
        """Return the first answer to any of them; None when the collection is empty.

        Args:
            timeout: seconds from now; None: no limit.
            deadline: instead, a moment of `time.monotonic()`.
            delete: take the answered request out of the collection; otherwise the same one may come again.

        Raises:
            CallTimeout: none has been answered yet; all stay in force.
        """
        if not self._requests:
            return None
        for request in self._requests:
            request._client.check_own()
        by_future = {request._future: request for request in self._requests}
        done, _ = wait_for(by_future, remaining(timeout, deadline), FIRST_COMPLETED)
        if not done:
            raise CallTimeout(f"none of {len(self)} requests has been answered yet; they stay in force")
        request = next(request for future, request in by_future.items() if future in done)
        response = Response(self._requests[request], request)
        if delete:
            del self._requests[request]
        return response

    def receive_response(
        self, timeout: float | None = None, *, deadline: float | None = None, delete: bool = True
    ) -> Response | None:
        """Do as `wait_response`, but abandon all of them when the time is over.

        Raises:
            CallTimeout: none was answered in time; late replies are dropped.
        """
        try:
            return self.wait_response(timeout, deadline=deadline, delete=delete)
        except CallTimeout:
            count = len(self)
            for request, _ in self:
                request.abandon()
            self._requests.clear()
            raise CallTimeout(f"none of {count} requests was answered in time; they are abandoned") from None


def remaining(timeout: float | None, deadline: float | None) -> float | None:
    """Return the seconds that are left of a relative or an absolute limit.

    Raises:
        SpecError: `timeout` is no number of seconds.
    """
    timeout = check_timeout(timeout)
    return capped(timeout if deadline is None else max(0.0, deadline - time.monotonic()))
