"""Applications, as a program outside asks for them; `Node` has methods of these names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from supervisors.application.application import (
    CONTROLLER_ID,
    Application,
    ApplicationInfo,
    check_application,
    start_order,
)
from supervisors.application.controller import ApplicationController
from supervisors.terms.checks import check_text
from supervisors.terms.errors import AlreadyStarted, ChildNotFound, NoProcess, SupervisorsError
from supervisors.terms.ports import Outside
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec
from supervisors.wire.pickles import seal


def start_application(node: Outside, application: Application) -> Ref:
    """Start an application whose dependencies run."""
    check_application(application)
    about = (application.name, application.type, application.dependencies)
    return _ask(node, ("start", about, seal(application.child_spec())))  # type: ignore[no-any-return]


def ensure_all_started(node: Outside, applications: Iterable[Application]) -> list[str]:
    """Start applications in order; if one does not start, stop those that were started before it."""
    order = start_order(applications, [each.name for each in which_applications(node)])
    started: list[str] = []
    try:
        for each in order:
            try:
                start_application(node, each)
            except AlreadyStarted:
                continue  # somebody else was faster
            started.append(each.name)
    except BaseException:
        for name in reversed(started):
            with contextlib.suppress(SupervisorsError):  # the first error is the one to be seen
                stop_application(node, name)
        raise
    return started


def stop_application(node: Outside, name: str) -> None:
    """Stop an application; return when it is gone."""
    check_text("name", name)
    _ask(node, ("stop", name))


def which_applications(node: Outside) -> list[ApplicationInfo]:
    """Return the running applications in the order in which they were started."""
    try:
        node.supervise(_root(node), "which_child", CONTROLLER_ID)
    except ChildNotFound:
        return []  # none was ever started here, and to ask starts nothing
    except NoProcess:
        pass  # the node has fallen and come back meanwhile
    return [ApplicationInfo(name, kind, tuple(needs), ref) for name, kind, needs, ref in _ask(node, ("which",))]


def _root(node: Outside) -> Ref:
    return Ref(**node.info["root"])


def _ask(node: Outside, request: Any) -> Any:
    """Ask the node's controller, which is started when it is first needed."""
    spec = seal(ChildSpec(CONTROLLER_ID, ApplicationController, name=CONTROLLER_ID))
    for last in (False, True):
        try:
            controller = node.supervise(_root(node), "start_child", spec)
        except AlreadyStarted as running:
            controller = running.ref
        except NoProcess:
            if last:
                raise
            continue  # the node has fallen and come back meanwhile
        assert controller is not None
        try:
            return node.call(controller, request, timeout=None)
        except NoProcess as error:
            if last or error.id is not None:
                raise  # else it was just being restarted, and has not carried this out
    raise AssertionError("not reached")
