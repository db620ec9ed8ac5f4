"""The client actor of one LM deployment: the control plane. Owns its budget, pauses and counts for the whole node.

Requests: ("lease", token estimates) → seconds from now for each; "stats".
Casts: ("join", worker) a worker has a session with this LM; ("used", tokens over- or under-estimated);
("outcomes", counts) what became of requests; ("pause", worker, seconds) its provider told that worker to wait.

No LM call passes through here: workers ask for leases (only when a limit is set) and report in batches.
"""

from __future__ import annotations

import time
from typing import Any

from dspex_actors.lm.control.budget import Budget
from dspex_actors.lm.lm import LM
from supervisors import Down, GenServer, Ref


def client_name(identity: str) -> str:
    """Return the registered name of the client actor of an LM."""
    return f"client:{identity[:16]}"


class LMClient(GenServer):
    """Control plane of one LM. Argument: its settings (`LM.to_dict`)."""

    def init(self, settings: dict[str, Any]) -> None:
        """Start with a full minute's pace and no burst."""
        lm = LM.from_dict(settings)
        self._identity, self._model = lm.identity(), lm.model
        self._budget = Budget(lm.rpm, lm.tpm, time.monotonic())
        self._workers: set[Ref] = set()
        self._counts: dict[str, float] = {}

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Answer a lease or show the counts."""
        match request:
            case ("lease", tokens):
                return self._budget.reserve(tokens, time.monotonic())
            case "stats":
                return {"model": self._model, "workers": len(self._workers), **self._counts}
        raise ValueError(f"an LM client does not know {request!r}")

    def handle_cast(self, message: Any) -> None:
        """Take in what workers tell."""
        match message:
            case ("join", Ref() as worker):
                if worker not in self._workers:
                    self._workers.add(worker)
                    self.monitor(worker)
            case ("used", amount):
                self._budget.refund_tokens(amount, time.monotonic())
            case ("outcomes", counts):
                for name, value in counts.items():
                    self._counts[name] = self._counts.get(name, 0) + value
            case ("pause", origin, seconds):
                for worker in self._workers:
                    if worker != origin:
                        self.cast(worker, ("pause", self._identity, seconds))

    def handle_info(self, message: Any) -> None:
        """Forget a worker that has ended."""
        if isinstance(message, Down):
            self._workers.discard(message.ref)
