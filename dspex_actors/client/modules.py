"""`system.modules`: programs that a node serves by name, as a program outside has them."""

from __future__ import annotations

import asyncio
import copy
import os
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Self

from dspex_actors.client.module_spec import (
    Packed,
    check_id,
    check_words,
    packed_inputs,
    packed_program,
    program_of,
    protection_of,
)
from dspex_actors.client.trying import Trying
from dspex_actors.ecosystem.inference.asking import Asking, asking_of
from dspex_actors.ecosystem.inference.messages import Answer
from dspex_actors.ecosystem.inference.plan import check_deadline
from dspex_actors.ecosystem.inference.prediction import InferredPrediction
from dspex_actors.errors import ConfigError, DeadlineExceeded, from_record
from dspex_actors.foundation.bridge import in_thread
from dspex_actors.lm.base import BaseLM
from dspex_actors.modules.actor import DEADLINE_SECONDS, OPEN_SECONDS, modules_spec
from dspex_actors.modules.messages import Create, Look, Remove, RollBack, Update
from dspex_actors.modules.program import lm_of, unpack_around
from dspex_actors.names import MODULES
from dspex_actors.settings import settings
from supervisors import Node, carried
from supervisors.errors import SupervisorsError

#: The manager keeps deadlines itself; so many seconds later nothing comes any more.
SLACK_SECONDS = 2.0
_KEYS = ("program", "id", "lm", "deadline", "description", "circuit_breaker", "rate_limiter", "pool")


#: One dict for each.
Rows = list[dict[str, Any]]


class Modules:
    """The modules of a node; `system.modules`. Thread-safe. Their manager is started on first use.

    Each method has a twin for event loops, with `a` in front: `acreate`, `aexecute`, `aupdate_module` and so on.
    """

    def __init__(self, node: Node, lm: Callable[[], Any]) -> None:
        """Use `system.modules` instead."""
        self._node, self._lm = node, lm
        self._seconds = DEADLINE_SECONDS
        self._asking: Asking | None = None

    def within(self, seconds: float) -> Self:
        """Return the same modules, whose calls have another deadline, in seconds; a module's own holds besides.

        Raises:
            ConfigError: it is no positive number.
        """
        twin = copy.copy(self)
        twin._seconds = check_deadline(seconds)
        return twin

    # --- changing ---------------------------------------------------------------------------------------------------

    def create(self, spec: Any) -> str:
        """Serve a program from now on, until it is removed: it outlives this program and the node's restarts.

        Args:
            spec: a program, a signature (a class, or a text as "question -> answer"), or a dict with `program` (either
                of these) and, where wanted, `id` (None: a new one), `lm` (for predictors that have none of their own;
                None: as for `evaluate`), `deadline` (seconds of a call; 600), `description`, and what protects its
                calls as in `configure_protection`: `circuit_breaker`, `rate_limiter`, `pool`.

        Returns:
            Its id, when a worker has opened the program.

        Raises:
            ConfigError: an argument is not legal, the program cannot be sent or opened, or there is one of this id.
            Overloaded: the node does not answer.
        """
        given: Mapping[str, Any] = spec if isinstance(spec, Mapping) else {"program": spec}
        unknown = [key for key in given if key not in _KEYS]
        if unknown or "program" not in given:
            got = ", ".join(map(str, given)) or "nothing"
            raise ConfigError(f"the spec is invalid: got {got:.200}, expected program, and of {', '.join(_KEYS[1:])}")
        program = program_of(given["program"])
        id_ = given.get("id")
        id_ = uuid.uuid4().hex[:8] if id_ is None else check_id(id_)
        described = check_words("description", given.get("description", ""))
        program, around, rules = self._packed(program, given.get("lm"))
        about = {
            "inputs": list(rules.rules),
            "is_open": rules.is_open,
            "deadline": check_deadline(given.get("deadline", DEADLINE_SECONDS)),
            "description": described,
            "protection": protection_of(given),
        }
        made: str = self._order(Create(id_, program, around, about, _token()))
        return made

    def update_module(self, id: str, program: Any, *, lm: BaseLM | None = None, note: str = "") -> int:  # noqa: A002
        """Let another program answer a module's calls from now on, while it is called.

        1. A worker opens it: one that cannot be opened changes nothing.
        2. It is written down, and answers what comes in after that. Calls that came in before end with the program
           that they began with.

        Args:
            id: of the module.
            program: as for `create`; it takes the inputs that the module has had from the start, and needs no others.
            lm: for predictors that have none of their own; None: that of the version before.
            note: what is said about it, in `versions`.

        Returns:
            The number of the version.

        Raises:
            ConfigError: an argument is not legal, the program cannot be sent or opened, or there is no such module.
            Overloaded: the node does not answer.
        """
        check_id(id)
        program = program_of(program)
        before = unpack_around(self._order(Look("around", id)))
        code, around, rules = self._packed(program, lm or lm_of(before))
        taken = [row["inputs"] for row in self.list() if row["id"] == id]
        dropped = [] if rules.is_open else [name for each in taken for name in each if name not in rules.rules]
        if dropped:
            raise ConfigError(
                f"the program is invalid: it does not take {', '.join(dropped)}, which who calls the module {id!r:.80} "
                f"gives; its inputs are {', '.join(rules.rules) or 'none'}; create another module"
            )
        needed = [name for name, rule in rules.rules.items() if rule.is_required]
        number: int = self._order(Update(id, code, around, needed, check_words("note", note), _token()))
        return number

    def roll_back(self, id: str, version: int | None = None) -> int:  # noqa: A002
        """Let an earlier version answer from now on, as `update_module` does.

        Args:
            id: of the module.
            version: its number; None: the one that the current one has followed.

        Returns:
            Its number.

        Raises:
            ConfigError: there is no such module, or version.
        """
        if version is not None and (isinstance(version, bool) or not isinstance(version, int)):
            raise ConfigError(f"the version is invalid: got {version!r:.40}, expected the number of one")
        number: int = self._order(RollBack(check_id(id), version, _token()))
        return number

    def remove(self, id: str) -> bool:  # noqa: A002
        """Serve a module no more; calls that are under way end. Return whether there was one."""
        was_there: bool = self._order(Remove(check_id(id)))
        return was_there

    # --- looking ----------------------------------------------------------------------------------------------------

    def list(self) -> Rows:
        """Return the modules by id: `id, version, versions` (how many), `description, inputs, calls`."""
        found: Rows = self._order(Look("list"))
        return found

    def versions(self, id: str) -> Rows:  # noqa: A002
        """Return the versions of a module, oldest first: the last 100, and those that still answer calls.

        Returns:
            For each `version, current, digest` (of the program), `at` (seconds since 1970), `followed` (the version
            that answered when it was made), `note`.

        Raises:
            ConfigError: there is no such module.
        """
        found: Rows = self._order(Look("versions", check_id(id)))
        return found

    def metrics(self, id: str) -> dict[str, Any]:  # noqa: A002
        """Return what was counted of a module, of all versions that it has and of each.

        Returns:
            `id, version` (the current one), `under_way, calls, failed, errors` (by type), `latency` (`mean, p50, p90,
            p99` and so on, in seconds), `asked` (requests to LMs), `usage` (tokens by kind), `cost` (USD; None:
            unknown), `versions` (number → the same).

        Raises:
            ConfigError: there is no such module.
        """
        found: dict[str, Any] = self._order(Look("metrics", check_id(id)))
        return found

    # --- calling ----------------------------------------------------------------------------------------------------

    def execute(self, id: str, /, **inputs: Any) -> InferredPrediction:  # noqa: A002
        """Have a module answer, and wait.

        The version that is current when the call comes in runs on an http worker, under the limits and circuits of its
        LM and the protection that `create` was told. A call that is under way when the manager dies is asked again.

        Args:
            id: of the module.
            **inputs: the program's, by name.

        Returns:
            The prediction; `.inference` says how it came about: `.version`, `.usage`, `.cost`, `.latency`.

        Raises:
            InvalidInputs: an input is missing or unknown.
            DeadlineExceeded: it took too long.
            CircuitOpen, RateLimited, Overloaded: its protection says so.
            LMError, AdapterParseError, InvalidOutputs: as for a call of the program; what else it raises is a
                DspexError.
            ConfigError: there is no such module, or an input cannot be sent.
        """
        began, packed = time.monotonic(), packed_inputs(check_id(id), inputs)
        trying = Trying(self._node, modules_spec(), began + self._seconds)
        while True:
            number, future = self._ask(id, packed, trying.left())
            try:
                return _opened(future.result(trying.left() + SLACK_SECONDS), began)
            except TimeoutError:
                raise self._late() from None
            except SupervisorsError as error:
                trying.again(error)
            finally:
                if not future.done() and self._asking is not None:
                    self._asking.give_up(number)
            trying.bring_back()

    async def aexecute(self, id: str, /, **inputs: Any) -> InferredPrediction:  # noqa: A002
        """Do what `execute` does, from an event loop."""
        began, packed = time.monotonic(), packed_inputs(check_id(id), inputs)
        trying = Trying(self._node, modules_spec(), began + self._seconds)
        while True:
            number, future = self._ask(id, packed, trying.left())
            try:
                async with asyncio.timeout(trying.left() + SLACK_SECONDS):
                    return _opened(await asyncio.wrap_future(future), began)
            except TimeoutError:
                raise self._late() from None
            except SupervisorsError as error:
                trying.again(error)
            finally:
                if (not future.done() or future.cancelled()) and self._asking is not None:
                    self._asking.give_up(number)
            await in_thread(trying.bring_back)

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"the module did not answer within {self._seconds:g} s", retryable=False)

    def _ask(self, id_: str, packed: bytes, seconds: float) -> tuple[int, Future[Answer]]:
        if self._asking is None or self._asking.pid != os.getpid():  # this process was forked
            self._asking = asking_of(self._node, MODULES)
        here = carried.get()
        operation = b"" if here is None else here if isinstance(here, bytes) else here.to_bytes()
        return self._asking.ask(id_, packed, seconds, operation)

    # --- from an event loop -----------------------------------------------------------------------------------------

    async def acreate(self, spec: Any) -> str:
        """Do what `create` does, from an event loop."""
        made: str = await in_thread(lambda: self.create(spec))
        return made

    async def aupdate_module(self, id: str, program: Any, *, lm: BaseLM | None = None, note: str = "") -> int:  # noqa: A002
        """Do what `update_module` does, from an event loop."""
        number: int = await in_thread(lambda: self.update_module(id, program, lm=lm, note=note))
        return number

    async def aroll_back(self, id: str, version: int | None = None) -> int:  # noqa: A002
        """Do what `roll_back` does, from an event loop."""
        number: int = await in_thread(lambda: self.roll_back(id, version))
        return number

    async def aremove(self, id: str) -> bool:  # noqa: A002
        """Do what `remove` does, from an event loop."""
        was_there: bool = await in_thread(lambda: self.remove(id))
        return was_there

    async def alist(self) -> Rows:
        """Do what `list` does, from an event loop."""
        return await in_thread(self.list)  # type: ignore[no-any-return]

    async def aversions(self, id: str) -> Rows:  # noqa: A002
        """Do what `versions` does, from an event loop."""
        return await in_thread(lambda: self.versions(id))  # type: ignore[no-any-return]

    async def ametrics(self, id: str) -> dict[str, Any]:  # noqa: A002
        """Do what `metrics` does, from an event loop."""
        return await in_thread(lambda: self.metrics(id))  # type: ignore[no-any-return]

    # --- inside -----------------------------------------------------------------------------------------------------

    def _packed(self, program: Any, lm: Any) -> Packed:
        return packed_program(program, lm or settings.around("lm") or self._lm() or settings.lm)

    def _order(self, request: Any) -> Any:
        """Ask the manager; one that dies meanwhile is asked again, and does nothing twice."""
        trying = Trying(self._node, modules_spec(), time.monotonic() + OPEN_SECONDS + SLACK_SECONDS)
        while True:
            try:
                kind, value = self._node.call(MODULES, request, trying.left())
            except SupervisorsError as error:
                trying.again(error)
            else:
                if kind == "error":
                    raise from_record(value)
                return value
            trying.bring_back()


def _token() -> str:
    return uuid.uuid4().hex


def _opened(reply: Answer, began: float) -> InferredPrediction:
    if reply.error is not None:
        raise from_record(reply.error)
    return InferredPrediction.of(reply, time.monotonic() - began)
