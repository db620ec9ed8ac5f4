"""What a connection does about ecosystems."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any, Protocol

from dspex_actors.client.inputs import check_has_lm, check_program, code_of
from dspex_actors.dspy.program import as_lm, as_program
from dspex_actors.ecosystem.handle import EcosystemHandle, start_ecosystem
from dspex_actors.ecosystem.inference.alerts import Alert, check_alerts
from dspex_actors.ecosystem.inference.handle import InferenceEcosystem, find_any
from dspex_actors.ecosystem.inference.plan import (
    INFERENCE,
    Transformation,
    check_cache,
    check_deadline,
    check_flag,
    members_of,
    named,
)
from dspex_actors.ecosystem.inference.rules import OutputCheck, input_rules, output_rules
from dspex_actors.ecosystem.naming import check_place
from dspex_actors.errors import ConfigError
from dspex_actors.lm.base import BaseLM
from dspex_actors.lm.lm import LM
from dspex_actors.runs.identity.parts import lm_identity, options_identity, program_identity
from dspex_actors.runs.snapshot import pack_surroundings
from dspex_actors.runs.spec import Job
from dspex_actors.settings import settings
from supervisors import Node

#: Without another word an inference may take so many seconds: as long as an LM call.
DEADLINE_SECONDS = 600.0
#: What the cache of an ecosystem may take.
CACHE_BYTES = 64 << 20


class _Connection(Protocol):
    """What is needed of a `System`."""

    node: Node
    lm: Any

    def _check_open(self) -> None: ...


class Ecosystems:
    """The part of `System` that starts and finds ecosystems."""

    def spawn_ecosystem(
        self: _Connection, key: tuple[str, str], members: Any, strategy: str = "rest_for_one", *, keep: bool = False
    ) -> EcosystemHandle:
        """Start actors that serve one thing together, under a supervisor of their own.

        Args:
            key: kind and id; the node has one ecosystem of each kind and id.
            members: `dspex.Member`s, in start order. They find each other by role: `dspex.ecosystem_of(self)`.
            strategy: who is restarted with a member that ended: one_for_one - nobody else; one_for_all - all;
                rest_for_one - those that were started after it.
            keep: it stays when this program ends, until somebody stops it.

        Returns:
            Its handle, when every member's `init` has returned; a context manager that stops it.

        Raises:
            ConfigError: an argument is not legal, it runs already, or a member did not start.
        """
        self._check_open()
        if check_place(key).kind == INFERENCE:
            raise ConfigError(
                f"the kind is invalid: got {INFERENCE!r}, which `system.ecosystem(program)` has; choose another"
            )
        return start_ecosystem(self.node, key, members, strategy, keep=check_flag("keep", keep))

    def find_ecosystem(self: _Connection, key: tuple[str, str]) -> EcosystemHandle:
        """Return the handle of an ecosystem that runs on the node, whoever has started it.

        Of one that `ecosystem` has started it is an `InferenceEcosystem`.

        Raises:
            ConfigError: there is none of this kind and id.
        """
        self._check_open()
        return find_any(self.node, key)

    def ecosystem(
        self: _Connection,
        program: Any,
        strict: bool = False,
        transformations: Iterable[Transformation] = (),
        alerts: Iterable[Alert] = (),
        cache_strategy: str = "lru",
        cache_ttl: float | None = 3600.0,
        cache_bytes: int = CACHE_BYTES,
        *,
        lm: BaseLM | None = None,
        id: str | None = None,  # noqa: A002 - it is that of `spawn_ecosystem`
        deadline: float = DEADLINE_SECONDS,
        keep: bool = False,
    ) -> InferenceEcosystem:
        """Serve a program: five actors that validate, look up, run, process and measure many inferences at once.

        Args:
            program: a Module, or any callable program.
            strict: refuse inputs that are unknown, missing or of another type, with all findings at once. Else they are
                taken as the signature's types where that is possible, and what is unknown is left out.
            transformations: functions, or (name, function), that the prediction goes through: each takes a Prediction
                and returns one, or a dict of the fields that change; sync or async, by value.
            alerts: thresholds of latency, errors, tokens, cost over a window, and what is done when one is crossed.
            cache_strategy: what goes first: lru - what was used longest ago; lfu - what was used least often.
            cache_ttl: seconds for which an answer may be given again; None: for ever; 0: never.
            cache_bytes: what the cache may take; 0: nothing is cached.
            lm: for predictors that have none of their own; None: as for `evaluate`.
            id: its id, by which others find it: ("inference", id); None: a new one.
            deadline: seconds that an inference may take; `within(seconds)` gives a handle with another one.
            keep: it stays when this program ends.

        Returns:
            Its handle: `infer(**inputs)`, `ainfer`, `stats()`; a context manager that stops it.

        Raises:
            ConfigError: an argument is not legal, or cannot be sent; no LM is set.
        """
        self._check_open()
        program = as_program(program)
        check_program(program)
        seconds = check_deadline(deadline)
        strategy, ttl, size = check_cache(cache_strategy, cache_ttl, cache_bytes)
        steps, thresholds = named(transformations), check_alerts(alerts)
        lm = as_lm(lm or settings.around("lm") or self.lm or settings.lm)
        check_has_lm(program, lm, NO_LM)
        id_ = uuid.uuid4().hex[:8] if id is None else id
        check = OutputCheck(output_rules(program))
        job = Job(
            f"{INFERENCE}:{id_}",
            "infer",
            code_of(program, "program"),
            b"" if steps else code_of(check, "program's outputs"),
            lm.to_dict() if isinstance(lm, LM) else None,
            pack_surroundings(lm),
        )
        digest = _digest(program, lm)
        members = members_of(
            job,
            code_of(input_rules(program), "program's inputs"),
            code_of((check, steps), "transformations"),
            code_of(list(thresholds), "alerts"),
            program=digest,
            seconds=seconds,
            strict=check_flag("strict", strict),
            cache_strategy=strategy,
            cache_bytes=size,
            cache_ttl=ttl,
        )
        made = start_ecosystem(self.node, (INFERENCE, id_), members, "one_for_one", keep=check_flag("keep", keep))
        return InferenceEcosystem.of(made, digest, seconds)


#: What the user of an ecosystem does about a missing LM.
NO_LM = 'no LM is set: dspex.connect(lm="openai/gpt-4o-mini"), system.ecosystem(..., lm=...) or program.set_lm(...)'


def _digest(program: Any, lm: Any) -> str:
    """Return the digest of all that changes an answer, but the inputs."""
    adapter = options_identity({"adapter": settings.adapter})
    return ":".join(found.digest for found in (program_identity(program), lm_identity(lm), adapter))
