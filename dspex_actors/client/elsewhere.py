"""What a client asks about a run that is another node's: at the one of the cluster that has it, whichever that is.

The other nodes are those that this connection's node knew last, as in `following`; so its own may be gone.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

from dspex_actors.client.following import FIND_SECONDS, Following
from dspex_actors.client.looking import COME_BACK_SECONDS, PATIENCE_SECONDS, POLL_LAST, Patience
from dspex_actors.errors import ConfigError, RunInterrupted, from_record
from dspex_actors.foundation.home import HOME
from dspex_actors.journal.errors import Fenced, JournalError, NotHere
from dspex_actors.journal.opening import place_of
from dspex_actors.journal.reader import JournalReader
from dspex_actors.names import RUNS
from supervisors import Node
from supervisors.cluster.handle import others_of, where_else
from supervisors.cluster.membership.messages import Member
from supervisors.errors import CallTimeout, NodeDown, NoProcess, ServerExited, SupervisorsError

#: A part of the node that fell is back, and a request of it answered, within so many seconds.
ANSWER_SECONDS = 10.0


class _Connection(Protocol):
    """What is needed of a `System`."""

    @property
    def journal(self) -> JournalReader: ...
    @property
    def data_dir(self) -> Path: ...
    def _ask(self, *request: Any, timeout: float = 60.0) -> Any: ...


def have_done(system: _Connection, verb: str, run_id: str, *more: Any) -> Any:
    """Have something done with a run by the node that has it; where that one has just died, by who takes it over.

    Args:
        system: the connection; its own node is asked first.
        verb: pause, cancel or resume.
        run_id: the run.
        *more: of the request.

    Raises:
        NotHere: no node that answers has it; says which do not. One to resume whose copy is on several disks is not
            looked for: the refusal says where it is.
        RunInterrupted: the node is gone, or does not answer.
    """
    until = time.monotonic() + FIND_SECONDS
    advice: NotHere | None = None
    while True:
        is_here = True
        try:
            return system._ask(verb, run_id, *more)
        except (Fenced, NotHere) as error:
            if verb == "resume" and place_of(system.data_dir) is None:
                raise
            advice = error if isinstance(error, NotHere) else None
        except NodeDown:
            is_here = False
        except SupervisorsError as error:
            raise RunInterrupted(
                f"the node does not answer ({error}): connect again, and continue with run_id={run_id!r}", run_id=run_id
            ) from None
        silent, others = [], others_of(system.data_dir)
        for member in others:
            try:
                return _ask_at(system.data_dir, member, (verb, run_id, *more))
            except (Fenced, ConfigError):  # it is not that one's, or not there at all
                continue
            except SupervisorsError:
                silent.append(member)
        is_hopeless = len(silent) == len(others) and not (is_here and others)
        if is_hopeless or time.monotonic() > until:
            if is_here and not silent and advice is not None:
                raise advice  # no other node is known that could have it: what this one says can be done
            raise _nobody(verb, run_id, silent, is_here=is_here)
        time.sleep(POLL_LAST)


def _nobody(verb: str, run_id: str, silent: list[Member], *, is_here: bool) -> Exception:
    names = ", ".join(f"{member.name} ({member.address})" for member in silent)
    if not is_here:
        said = f"; nor do the others of its cluster answer: {names}" if names else ""
        return RunInterrupted(f"the node is gone{said}: connect again, and {verb} run {run_id} there", run_id=run_id)
    if names:
        return NotHere(f"run {run_id} is another node's, and {names} does not answer: {verb} it there, once it is back")
    return NotHere(f"run {run_id} is that of a node which this one does not know: {verb} it there")


def _ask_at(data_dir: Path, member: Member, request: tuple[Any, ...]) -> Any:
    """Ask the keeper of runs of another node."""
    with Node.attach(data_dir, HOME, at=member.address) as node:
        kind, value = node.call(RUNS, request, PATIENCE_SECONDS)
    if kind == "error":
        raise from_record(value)
    return value


class Carried:
    """How an optimisation stands, wherever it is carried out: at this node, or at another one that took it.

    Args:
        system: the connection.
        run_id: of the optimisation.
    """

    def __init__(self, system: _Connection, run_id: str) -> None:
        """Ask nobody yet."""
        self._system, self._run_id = system, run_id
        self._other: Node | None = None
        self._since: float | None = None
        self._patience = Patience(run_id)
        #: Where the journal is the node's own, and that is gone: looks at copies.
        self._following: Following | None = None
        self._seen: tuple[str, str | None] = "running", None

    def standing(self) -> tuple[str, str | None] | None:
        """Return its state, and why; None: there is none.

        Raises:
            JournalError: the journal has refused to be read for too long.
        """
        if self._following is not None:
            return self._seen
        try:
            found = self._system.journal.standing(self._run_id)
        except JournalError as error:  # a server that is away for a moment: the optimisation waits for it, too
            self._patience.refused(error)
            return "running", None
        self._patience.well()
        return None if found is None else found[:2]

    def check(self) -> None:
        """Return where it is, or may be soon, carried out.

        Raises:
            RunInterrupted: this connection's node is gone, and no other one has it, or takes it in time.
        """
        if self._following is not None:
            self._follow(self._following)
            return
        asked = time.monotonic()
        while True:
            try:
                self._system._ask("owner", timeout=ANSWER_SECONDS)
                return
            except (NoProcess, ServerExited, CallTimeout) as error:
                # One that is there and only slow is no reason to leave.
                patience = PATIENCE_SECONDS if isinstance(error, CallTimeout) else ANSWER_SECONDS
                if time.monotonic() - asked > patience:
                    raise self._interrupted() from None
                time.sleep(0.05)
            except NodeDown:
                self._check_others()
                return

    def fetched(self) -> JournalReader | None:
        """Return who reads what another node has of it, where it has ended there; None: the connection's journal does.

        Raises:
            RunInterrupted: that node went away, too.
        """
        if self._following is None or self._following.away is None:
            return None
        return self._following.results(with_parts=True)

    def close(self) -> None:
        """Leave the other node."""
        node, self._other = self._other, None
        if node is not None:
            node.close()
        if self._following is not None:
            self._following.close()

    def _check_others(self) -> None:
        if place_of(self._system.data_dir) is None:
            system = self._system
            self._following = Following(self._run_id, system._ask, system.data_dir, system.journal, 0.0)
            self._follow(self._following)
            return
        now = time.monotonic()
        since = self._since = self._since or now
        try:
            if self._other is not None and self._has(self._other):
                self._since = None
                return
            self.close()
            is_any_up = self._find()
        except JournalError as error:
            self._patience.refused(error)
            return
        if self._other is not None:
            self._since = None
        elif not is_any_up or now - since > FIND_SECONDS:
            raise self._interrupted()

    def _follow(self, following: Following) -> None:
        now = time.monotonic()
        since = self._since = self._since or now
        try:
            summary = following.look()["summary"]
        except RunInterrupted:
            if not others_of(self._system.data_dir) or now - since > FIND_SECONDS:
                raise self._interrupted() from None
            return
        self._since = None
        self._seen = summary["state"], summary["reason"]

    def _find(self) -> bool:
        """Look for the node that has it; return whether any of them answers."""
        is_any_up = False
        for member in others_of(self._system.data_dir):
            try:
                node = Node.attach(self._system.data_dir, HOME, at=member.address)
            except SupervisorsError:
                continue
            is_any_up = True
            if self._has(node):
                self._other = node
                return True
            node.close()
        return is_any_up

    def _has(self, node: Node) -> bool:
        row = self._system.journal.get_run(self._run_id, code=False)
        try:
            kind, owner = node.call(RUNS, ("owner",), COME_BACK_SECONDS)
        except CallTimeout:
            return node is self._other  # it is slow
        except SupervisorsError:
            return False
        return kind == "ok" and (row is None or row.owner in ("", owner))

    def _interrupted(self) -> RunInterrupted:
        return RunInterrupted(
            "the node went away; what was answered is safe. Go on with "
            f"system.optimization({self._run_id!r}).resume(){where_else(self._system.data_dir)}",
            run_id=self._run_id,
        )
