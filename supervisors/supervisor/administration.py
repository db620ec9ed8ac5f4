"""The calls that a supervisor answers: those that only read at once, those that change something in their turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from supervisors.supervisor.children import Child
from supervisors.supervisor.events import Answer, Effect
from supervisors.supervisor.lifecycle import Lifecycle
from supervisors.supervisor.operations import Operation
from supervisors.terms.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    NotAllowed,
    SpecError,
    SupervisorsError,
    unknown_request,
)
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec, check_significant


class Administration(Lifecycle):
    """start_child, terminate_child, restart_child, delete_child, and the views."""

    def call(self, caller: Any, name: str, argument: Any, now: float) -> list[Effect]:
        """Answer a call now if it only reads; else queue it behind what is under way."""
        self._now = now
        reads: dict[str, Callable[[Any], Any]] = {
            "which_children": lambda _: self.children.rows(),
            "which_child": lambda which: self.children.row(self._named(which)),
            "count_children": lambda _: self.children.counts(),
            "get_childspec": lambda which: self.children.find(which).spec.with_defaults(),
        }
        writes: dict[str, Callable[[Any, Any], Operation]] = {
            "start_child": self._start_child,
            "terminate_child": self._terminate_child,
            "restart_child": self._restart_child,
            "delete_child": self._delete_child,
        }
        if self.finished:
            self._refuse(caller)
        elif name in reads:
            try:
                self._out.append(Answer(caller, reads[name](argument)))
            except SupervisorsError as error:
                self._out.append(Answer(caller, error=error))
        elif name in writes:
            self._queue.append((lambda: writes[name](caller, argument), caller))
        else:
            self._out.append(Answer(caller, error=unknown_request("a supervisor", name)))
        return self._drain()

    def _start_child(self, caller: Any, argument: Any) -> Operation:
        try:
            spec = self._new_spec(argument)
        except SupervisorsError as error:
            self._answer(caller, error=error)
            return
        child = self.children.add(spec)
        failure = yield from self._start_or_drop(child)
        if failure is not None:
            self._forget(child)
        self._answer(caller, _outcome(child), failure)

    def _new_spec(self, argument: Any) -> ChildSpec:
        if self.dynamic:
            if not isinstance(argument, tuple | list):
                raise SpecError.of("spec", argument, "a tuple of arguments, which are added to the template's")
            template = self.spec.children[0]
            return replace(template, args=(*template.args, *argument))
        if not isinstance(argument, ChildSpec):
            raise SpecError.of("spec", argument, "a ChildSpec")
        check_significant(argument, self.spec.auto_shutdown)
        known = self.children.with_id(argument.id)
        if known is None:
            return argument
        if known.ready:
            raise AlreadyStarted(f"child {known.spec.id!r} runs already", id=known.spec.id, ref=known.ref)
        raise AlreadyPresent(
            f"child {known.spec.id!r} is known and {known.state}: restart_child or delete_child",
            id=known.spec.id,
        )

    def _terminate_child(self, caller: Any, which: Any) -> Operation:
        try:
            child = self._named(which)
        except NotAllowed as error:
            self._answer(caller, error=error)
            return
        except ChildNotFound as missing:
            gone = isinstance(which, Ref) and self.dynamic and not self._alive(which)
            self._answer(caller, error=None if gone else missing)
            return
        yield from self._stop([child])
        if self._leaves_nothing(child):
            self._forget(child)
        self._answer(caller)

    def _named(self, which: Any) -> Child:
        """Return the child that a call names: by its id, under simple_one_for_one by its Ref.

        Raises:
            NotAllowed, ChildNotFound: as their names say.
        """
        if self.dynamic and not isinstance(which, Ref):
            raise NotAllowed("under simple_one_for_one a child is named by its Ref")
        return self.children.find(which)

    def _stopped(self, which: Any) -> Child:
        """Return the child that a call is about which only a stopped one can get.

        Raises:
            NotAllowed, ChildNotFound, ChildRestarting, ChildRunning: it cannot be done.
        """
        if self.dynamic:
            raise NotAllowed("a simple_one_for_one supervisor has no restart_child and no delete_child")
        child = self.children.find(which)
        if child.state == "restarting":
            raise ChildRestarting(f"child {which!r} is being restarted", id=child.spec.id)
        if child.live:
            raise ChildRunning(f"child {which!r} is running", id=child.spec.id, ref=child.ref)
        return child

    def _restart_child(self, caller: Any, which: Any) -> Operation:
        try:
            child = self._stopped(which)
        except SupervisorsError as error:
            self._answer(caller, error=error)
            return
        failure = yield from self._start(child)
        self._answer(caller, _outcome(child), failure)

    def _delete_child(self, caller: Any, which: Any) -> Operation:
        try:
            self._forget(self._stopped(which))
        except SupervisorsError as error:
            self._answer(caller, error=error)
        else:
            self._answer(caller)
        return
        yield frozenset()  # a generator, as the other operations are


def _outcome(child: Child) -> Any:
    """Return what a start gives: the Ref, or None; with what its init gave for the caller, if anything, beside it."""
    return child.ref if child.info is None else (child.ref, child.info)
