"""Applications: a supervision tree with a name, dependencies, and a say in whether the node goes on without it.

After Elixir's application.ex and OTP's application_controller.

::

    store = Application("store", SupervisorSpec([ChildSpec("db", Db, name="db")], name="store"))
    web = Application("web", SupervisorSpec([ChildSpec("http", Http)]), dependencies=("store",), type="permanent")
    node.ensure_all_started(web, store)         # store, then web
    node.stop_application("web")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from supervisors.application.callbacks import Closer, Opener
from supervisors.terms.checks import check_choice, check_function, check_text, check_texts
from supervisors.terms.errors import SpecError
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec, SupervisorSpec

TYPES = ("temporary", "transient", "permanent")
#: The id of the controller among the root's children, and what the ids of applications there begin with.
CONTROLLER_ID, PREFIX = "application_controller", "application:"


@dataclass(frozen=True)
class Application:
    """A supervision tree that is started and stopped as one, under the node's root.

    It is stopped in this order: `prep_stop`, the tree (children in reverse), `stop`. A tree that ends by itself has no
    `prep_stop`, but its `stop`. Nothing restarts an application that has ended.

    Args:
        name: unique on the node.
        start: its supervisor, a SupervisorSpec.
        dependencies: names of the applications that must run before it starts.
        type: what its end means unless `stop_application` brought it about. temporary - nothing beyond a line in the
            log; transient - the node goes down if it ended abnormally (a supervisor that gives up ends with
            `shutdown`, which is not abnormal, so this is of little practical use); permanent - the node goes down. The
            node goes down by an ordered stop of its daemon.
        prep_stop: called on the node before the tree is stopped; what it returns is handed to `stop`.
        stop: called on the node with that (or None) when the tree is gone.
        stop_timeout: seconds that each of the two may take before it is killed.
        start_timeout: seconds that the tree may take to start.

    Raises:
        SpecError: names the field, the value and what is legal.
    """

    name: str
    start: Any
    dependencies: tuple[str, ...] = ()
    type: str = "temporary"
    prep_stop: Callable[[], Any] | None = None
    stop: Callable[[Any], Any] | None = None
    stop_timeout: float = 5.0
    start_timeout: float = 60.0

    def __post_init__(self) -> None:
        """Validate every field."""
        check_text("name", self.name)
        object.__setattr__(self, "dependencies", check_texts("dependencies", self.dependencies))
        check_choice("type", self.type, TYPES)
        check_function("prep_stop", self.prep_stop, optional=True)
        check_function("stop", self.stop, optional=True)
        self.child_spec()

    def child_spec(self) -> ChildSpec:
        """Return what the node's root starts: the tree, between the processes that run its callbacks if it has any."""
        fields: dict[str, Any] = {"restart": "temporary", "start_timeout": self.start_timeout}
        if self.prep_stop is None and self.stop is None:
            return ChildSpec(PREFIX + self.name, self.start, **fields)
        # Stopped in reverse: the opener's end is prep_stop, then the tree, then the closer's end is stop.
        children = (
            ChildSpec("closer", Closer, args=(self.stop,), shutdown=self.stop_timeout),
            ChildSpec("tree", self.start, significant=True, **fields),
            ChildSpec("opener", Opener, args=(self.prep_stop,), shutdown=self.stop_timeout),
        )
        spec = SupervisorSpec(children, intensity=10, period=10.0, auto_shutdown="any_significant")
        return ChildSpec(PREFIX + self.name, spec, **fields)


def has_callbacks(spec: ChildSpec) -> bool:
    """Whether in what `Application.child_spec` returned the tree is between processes that run callbacks."""
    children = spec.start.children if isinstance(spec.start, SupervisorSpec) else ()
    return [child.id for child in children] == ["closer", "tree", "opener"]


@dataclass(frozen=True)
class ApplicationInfo:
    """A running application.

    Args:
        name: its name.
        type: temporary, transient or permanent.
        dependencies: names of the applications that it needs.
        ref: its topmost process.
    """

    name: str
    type: str
    dependencies: tuple[str, ...]
    ref: Ref


def check_application(value: Any) -> Application:
    """Return an application.

    Raises:
        SpecError: it is none.
    """
    if not isinstance(value, Application):
        raise SpecError.of("application", value, "an Application")
    return value


def start_order(applications: Iterable[Application], running: Iterable[str] = ()) -> list[Application]:
    """Return applications in an order in which each comes after all it depends on (depth first, otherwise as given).

    Args:
        applications: to be started.
        running: names of those that run already; they are left out.

    Raises:
        SpecError: a dependency is unknown, a name is there twice, or the dependencies go in a circle; it is named.
    """
    by_name: dict[str, Application] = {}
    for each in map(check_application, applications):
        if by_name.setdefault(each.name, each) is not each:
            raise SpecError.of("applications", each.name, "each name once")
    done = set(running)
    path: list[str] = []
    order: list[Application] = []

    def visit(name: str, needed_by: str | None) -> None:
        if name in done:
            return
        if name in path:
            circle = " -> ".join([*path[path.index(name) :], name])
            raise SpecError(f"dependencies is invalid: got a circle: {circle}, expected none")
        if name not in by_name:
            raise SpecError.of(f"dependencies of application {needed_by!r}", name, "one that runs, or is started too")
        path.append(name)
        for dependency in by_name[name].dependencies:
            visit(dependency, name)
        path.pop()
        done.add(name)
        order.append(by_name[name])

    for name in by_name:
        visit(name, None)
    return order
