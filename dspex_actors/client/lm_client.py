"""`Client`: an LM deployment as programs outside use it, with what is known of it.

::

    client = dspex.Client(dspex.LM("openai/gpt-4o-mini"))
    client.request("Name a colour.", correlation_id="order-17", user="ada").text
    client.stats().latency["p90"]
"""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from dspex_actors.client.system import System, current_system
from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.foundation.branches import branch_spec
from dspex_actors.foundation.operation import Operation, operation
from dspex_actors.foundation.telemetry.sketch import nearest_rank
from dspex_actors.foundation.telemetry.stats import POINTS, QUANTILES
from dspex_actors.lm.backend import through
from dspex_actors.lm.control.client import client_name, client_spec
from dspex_actors.lm.lm import LM
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.settings import seconds
from dspex_actors.lm.usage import Usage
from dspex_actors.names import CLIENTS
from dspex_actors.settings import check_user, context
from supervisors.errors import AlreadyPresent, AlreadyStarted, NoProcess, ServerExited, SupervisorsError
from supervisors.first_use import ensure_branch_outside

#: Quantiles of a client's own latency are those of its last so many requests.
KEPT = 1000
#: The deployment's actor is waited for so long, in seconds, where its branch is being restarted.
START_SECONDS, PAUSE_SECONDS = 5.0, 0.02
#: What is told of a latency.
_LATENCY = (*QUANTILES, "mean")


class ClientStats(dict[str, Any]):
    """What a client knows; each key is an attribute too.

    Of this client, exact: `requests` and of these `errors`; `last_request`, when the last one began, in wall-clock
    seconds (None: none yet); `latency`, seconds of those that were answered, `p50`, `p90`, `p99` (of the last 1,000)
    and `mean`; `usage`; `cost` in USD (None: unknown of one of them).

    Of the deployment, whoever asks it, as far as the node knows: `node`, with `requests` (to the provider, retries
    included) and of these `errors`; `latency` of one, as above (right to 0.5 %); `usage` in `input_total` and
    `output_total`; `cost` as above; `workers` that have a session with it; `limits` in force. None: the node does not
    answer.
    """

    def __getattr__(self, name: str) -> Any:
        """Return a key."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Client:
    """The face of an LM's deployment for programs outside. Thread-safe.

    It has the deployment's client actor started, so that it is found among the services (namespace "lm") with its
    provider and capabilities; that one ends when nobody has asked for a minute, and is back with the next request.

    Args:
        lm: the LM, or a model string.
        system: the connection; None: the current one.

    Raises:
        ConfigError: it is no LM with a deployment, or nothing is connected.
    """

    def __init__(self, lm: LM | str, system: System | None = None) -> None:
        """Have the deployment's actor there."""
        if isinstance(lm, str):
            lm = LM(lm)
        if not isinstance(lm, LM):
            raise ConfigError(
                f"the LM of a client is invalid: got {type(lm).__name__}, expected an LM or a model string"
            )
        self.lm = lm
        self.system = current_system() if system is None else system
        self._lock = threading.Lock()
        self._requests = self._errors = 0
        self._last: float | None = None
        self._latency: deque[float] = deque(maxlen=KEPT)
        self._seconds = 0.0
        self._usage, self._cost = Usage(), 0.0
        self._priced = True
        self._start()

    def __repr__(self) -> str:
        """Show whom it asks."""
        return f"<Client of {self.lm!r}>"

    @property
    def provider(self) -> str:
        """Who is asked."""
        return self.lm.provider

    @property
    def name(self) -> str:
        """The name of its service in the namespace "lm"."""
        return client_name(self.lm.deployment).partition(":")[2]

    def request(
        self,
        messages: Any,
        correlation_id: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        **params: Any,
    ) -> LMReply:
        """Ask the deployment and wait for its answer.

        Args:
            messages: role/content messages, or a text.
            correlation_id: of the operation that this request is; None: the open one's, else a new one.
            user: for whom it is; operations, events, errors and `dspex cost` show it. The provider is not told.
            timeout: seconds for it all, waits and retries included; None: the LM's own.
            **params: parameters for this request only.

        Raises:
            ConfigError: an argument is not usable; nothing was asked, and nothing is counted.
            LMError: it was not answered.
        """
        lm, op = self._prepare(correlation_id, user, timeout)
        with op, _for(user), through(self.system._backend), _Counted(self) as counted:
            counted.reply = lm(messages=messages, **params)
            return counted.reply

    async def arequest(
        self,
        messages: Any,
        correlation_id: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        **params: Any,
    ) -> LMReply:
        """Ask the deployment from an event loop; as `request`."""
        lm, op = self._prepare(correlation_id, user, timeout)
        with op, _for(user), through(self.system._backend), _Counted(self) as counted:
            counted.reply = await lm.acall(messages=messages, **params)
            return counted.reply

    def stats(self) -> ClientStats:
        """Return what is known of this client, and of its deployment on the whole node; see `ClientStats`."""
        with self._lock:
            own = {
                "requests": self._requests,
                "errors": self._errors,
                "last_request": self._last,
                "latency": _latency(self._latency, self._seconds, self._requests - self._errors),
                "usage": self._usage,
                "cost": self._cost if self._priced else None,
            }
        return ClientStats(own, node=self._on_node())

    def workers(self) -> list[str]:
        """Return the http workers that answer requests now."""
        return self.system._backend.workers()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _prepare(self, correlation_id: str | None, user: str | None, timeout: float | None) -> tuple[LM, Operation]:
        if user is not None:
            check_user(user)
        self.system._check_open()
        timeout = None if timeout is None else seconds("timeout", timeout)
        lm = self.lm if timeout is None else self.lm.copy(deadline=timeout, timeout=min(timeout, self.lm.timeout))
        metadata = {"model": lm.model, **({"user": user} if user is not None else {})}
        return lm, operation("request", correlation_id=correlation_id, **metadata)

    def _took(self, began: float, seconds: float, reply: LMReply | None) -> None:
        with self._lock:
            self._requests += 1
            self._last = began
            if reply is None:
                self._errors += 1
                return
            self._latency.append(seconds)
            self._seconds += seconds
            self._usage += reply.usage
            self._priced = self._priced and reply.cost is not None
            self._cost += reply.cost or 0.0

    def _start(self) -> None:
        """Have the deployment's actor there; a request would do so too."""
        node, spec = self.system.node, client_spec(self.lm._parts.deployment)
        until = time.monotonic() + START_SECONDS
        while node.whereis(spec.id) is None:
            ensure_branch_outside(node, branch_spec(CLIENTS))
            try:
                node.start_child(CLIENTS, spec)
            except AlreadyStarted:
                return
            except (AlreadyPresent, NoProcess, ServerExited) as error:
                if time.monotonic() > until:
                    raise
                if isinstance(error, AlreadyPresent):  # it ended since nobody needed it
                    try:
                        node.delete_child(CLIENTS, spec.id)
                        continue
                    except SupervisorsError:
                        pass  # or it is just being restarted
                time.sleep(PAUSE_SECONDS)

    def _on_node(self) -> dict[str, Any] | None:
        name = client_name(self.lm.deployment)
        try:
            measured = self.system.telemetry.metrics("lm.request")
            told: dict[str, Any] = self.system.node.call(name, "stats")
        except NoProcess:
            told = {}
        except (SupervisorsError, DspexError):
            return None
        rows = {
            metric: [row for row in found if row["tags"].get("deployment") == self.name]
            for metric, found in measured.items()
        }
        priced = rows.get("lm.request.cost", ())
        duration = next(iter(rows.get("lm.request.duration", ())), None)
        tokens = {row["tags"].get("kind"): int(row["sum"]) for row in rows.get("lm.request.tokens", ())}
        requests = duration["count"] if duration else 0
        is_priced = sum(row["count"] for row in priced) == requests
        return {
            "requests": requests,
            "errors": int(sum(row["sum"] for row in rows.get("lm.request.errors", ()))),
            "latency": {key: duration[key] if duration else None for key in _LATENCY},
            "usage": {"input_total": tokens.get("input", 0), "output_total": tokens.get("output", 0)},
            "cost": sum((row["sum"] for row in priced), 0.0) if is_priced else None,
            "workers": told.get("workers", 0),
            "limits": told.get("limits", {}),
        }


class _Counted:
    """Counts what goes on in a `with` as a request, unless it is its caller's mistake."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.reply: LMReply | None = None

    def __enter__(self) -> _Counted:
        self._began, self._since = time.time(), time.monotonic()
        return self

    def __exit__(self, kind: object, error: BaseException | None, frames: object) -> None:
        if not isinstance(error, ConfigError):
            self._client._took(self._began, time.monotonic() - self._since, self.reply)


def _for(user: str | None) -> AbstractContextManager[None]:
    return nullcontext() if user is None else context(user=user)


def _latency(kept: deque[float], seconds: float, answered: int) -> dict[str, float | None]:
    values = sorted(kept)
    if not values:
        return dict.fromkeys(_LATENCY)
    points = {name: values[nearest_rank(point, len(values))] for name, point in zip(QUANTILES, POINTS, strict=True)}
    return {**points, "mean": seconds / answered}
