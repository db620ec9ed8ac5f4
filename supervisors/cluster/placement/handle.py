"""Starting children on chosen nodes, for a program outside: `Placement(node)`."""

from __future__ import annotations

from dataclasses import replace

from supervisors.cluster.leases.messages import LEASES, Get
from supervisors.cluster.leases.outside import ensure_outside
from supervisors.cluster.leases.store import Lease, check_lease_name
from supervisors.cluster.placement.core import LOAD_BALANCED, check_policy
from supervisors.cluster.placement.server import PLACEMENT, START_SECONDS, placement_spec
from supervisors.cluster.placement.singleton import ONE, Singleton
from supervisors.terms.errors import SpecError
from supervisors.terms.ports import Outside
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec
from supervisors.wire.pickles import seal_start


class Placement:
    """Children on chosen nodes of a cluster, and what there is one of. Thread-safe.

    Args:
        node: one of the cluster, or a node alone.
    """

    def __init__(self, node: Outside) -> None:
        """Ask nothing yet."""
        self._node = node

    def start(
        self, spec: ChildSpec, policy: str = LOAD_BALANCED, requires: dict[str, str] | None = None
    ) -> tuple[str, Ref]:
        """Start a child on a chosen node, under the branch `cluster` of that node, which starts it anew if it falls.

        Args:
            spec: of the child; its id and its name are free on every node.
            policy: round_robin; capability_aware: the least busy of those that have the labels; load_balanced: the
                least busy of all. Nodes that drain or are cordoned are never taken.
            requires: labels that the node must have.

        Returns:
            The name of the node, and the child.

        Raises:
            NotAllowed: no node that is alive has these labels. StartError: it does not start.
        """
        check_policy(policy, requires)
        found = self._ask(("start", seal_start(spec), policy, requires))
        return found[0], found[1]

    def singleton(
        self, name: str, spec: ChildSpec, policy: str = LOAD_BALANCED, requires: dict[str, str] | None = None
    ) -> None:
        """Have one server of a kind in the whole cluster, from now on: where its node dies, another one gets it.

        There is never another one that may write under its epoch. It takes 5 s or so until it runs again.

        Args:
            name: of it, in the cluster.
            spec: its `start` is a subclass of `Singleton`; its arguments are those of `begin`.
            policy: as in `start`.
            requires: as in `start`.

        Raises:
            SpecError: it is none. NoMajority: the cluster's store of leases gives no answer.
        """
        check_policy(policy, requires)
        check_lease_name(name)
        if not (isinstance(spec.start, type) and issubclass(spec.start, Singleton)):
            raise SpecError.of("spec.start", spec.start, "a subclass of Singleton")
        whole = replace(spec, args=(name, spec.args, dict(spec.kwargs)), kwargs={}, restart="temporary", name=None)
        self._ask(("singleton", name, seal_start(whole), policy, requires))

    def remove(self, name: str) -> None:
        """End a singleton, and have it no more.

        Raises:
            NoProcess: there is none of this name.
        """
        self._ask(("remove", name))

    def where(self, name: str) -> Lease:
        """Return the lease of a singleton: `value` is its Ref, `epoch` counts how many there were.

        Where `holder` is empty, none runs now.
        """
        ensure_outside(self._node)
        found: Lease = self._node.call(LEASES, Get(ONE + check_lease_name(name)), 10.0)
        return found

    def _ask(self, request: object) -> tuple[str, Ref]:
        ensure_outside(self._node, placement_spec())
        answer: tuple[str, Ref] = self._node.call(PLACEMENT, request, START_SECONDS)
        return answer
