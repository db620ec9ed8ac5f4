"""Which nodes have to have a batch of a run before it counts, pure.

The set of nodes in sync is a value in the store of leases. Its coordinator changes it, one change at a time, and only
under its lease: who claims the run next finds the set as it is then, and must be in it. So whatever may be in the
store, agreed or only asked for, is required until the store has answered: what counts is on the disk of each node
that may claim. A node comes in when it has all that counts, and is required from before it is asked for: what is
written meanwhile waits for it too, else it would always be one batch behind.

A set may be of several runs, an optimisation and those of its steps: how far a copy is, is told of each run, and a node
comes in when it has all that counts of all of them.
"""

from __future__ import annotations

from collections.abc import Iterable

Nodes = frozenset[str]
#: A node that is at most so many changes behind is waited for, and comes in.
NEAR = 8


class Copied:
    """How far the copies of one run are.

    Args:
        whole: the set that its nodes are of.
        written: the number of the run's last change on this node's disk.
    """

    def __init__(self, whole: InSync, written: int) -> None:
        """Know of no copy yet."""
        self._whole = whole
        self.written = written
        #: What counted for a coordinator before is not known here, but that this node has it: it was in the set.
        self._before = written
        self._has: dict[str, int] = {}
        self._counted = 0

    @property
    def counted(self) -> int:
        """The number up to which everything is on the disks of all who may claim the run."""
        whole = self._whole
        others = [self._has.get(node, 0) for node in whole.required if node != whole.me]
        self._counted = max(self._counted, min([self.written, *others]))
        return self._counted

    @property
    def least(self) -> int:
        """The number up to which a node must have everything before it may come in."""
        return max(self.counted, self._before)

    @property
    def lacking(self) -> set[str]:
        """The nodes without which what is written does not count."""
        whole = self._whole
        return {node for node in whole.required if node != whole.me and self._has.get(node, 0) < self.written}

    def wrote(self, seq: int) -> None:
        """Take note that everything up to a number is on this node's disk."""
        self.written = max(self.written, seq)

    def has(self, node: str, seq: int) -> None:
        """Take note that everything up to a number is on a node's disk."""
        self._has[node] = max(self._has.get(node, 0), seq)

    def begins_at(self, node: str, seq: int) -> None:
        """Take note that a node has this much, and no more, of what is here."""
        self._has[node] = seq

    def forget(self, node: str) -> None:
        """Take note that nothing is known of a node any more."""
        self._has.pop(node, None)

    def known(self, node: str) -> int:
        """Return up to which number a node is known to have everything; 0: nothing is known."""
        return self._has.get(node, 0)

    def is_known(self, node: str) -> bool:
        """Whether it is known how much a node has."""
        return node in self._has

    def leave_out(self, node: str) -> None:
        """Have a node taken out of the set, for all its runs: it is down, too slow, or has something else."""
        self._whole.leave_out(node)

    def is_left_out(self, node: str) -> bool:
        """Whether a node cannot claim the run: it may be given another content."""
        return self._whole.is_left_out(node)


class InSync(Copied):
    """The nodes in sync, as the coordinator of a run has them, and how far the copies of that run are.

    Args:
        me: this node.
        agreed: the set in the store.
        written: the number of the run's last change on this node's disk.
    """

    def __init__(self, me: str, agreed: Iterable[str], written: int) -> None:
        """Know of no copy yet."""
        super().__init__(self, written)
        self.me = me
        self.agreed: Nodes = frozenset(agreed) | {me}
        #: Sets that were asked for, and may be in the store or get there.
        self._asked: list[Nodes] = []
        #: What is waited for, and not asked for yet.
        self._joining: set[str] = set()
        self._out: set[str] = set()
        self._runs: list[Copied] = [self]

    def add(self, written: int) -> Copied:
        """Have the set be that of a further run, too; `written`: as above, of that one."""
        self._runs.append(Copied(self, written))
        return self._runs[-1]

    @property
    def required(self) -> Nodes:
        """The nodes that must have a batch before it counts."""
        return self._possible | self._joining

    @property
    def _possible(self) -> Nodes:
        """The nodes that are in the store's set, or may be."""
        return self.agreed.union(*self._asked)

    @property
    def is_sure(self) -> bool:
        """Whether it is known which set is in the store."""
        return not self._asked

    @property
    def all_counts(self) -> bool:
        """Whether all that is written of all runs counts."""
        return all(run.counted >= run.written for run in self._runs)

    def leave_out(self, node: str) -> None:
        """Have a node taken out of the set: it is down, too slow, or has something else."""
        if node != self.me:
            self._out.add(node)
            self._joining.discard(node)

    def take_in(self, node: str) -> None:
        """Have a node come into the set as soon as it has all that counts."""
        self._out.discard(node)

    def is_left_out(self, node: str) -> bool:
        """Whether a node cannot claim the run: it may be given another content."""
        return node not in self._possible

    def waits_for(self) -> list[str]:
        """Return the nodes without which what is written does not count, by name."""
        return sorted(set().union(*(run.lacking for run in self._runs)))

    def wish(self, wanted: Iterable[str]) -> Nodes | None:
        """Return the set to ask the store for; None: it is as it should be.

        Args:
            wanted: nodes that are to be in it.
        """
        runs = self._runs
        wanted = {node for node in wanted if node not in self._out and all(run.is_known(node) for run in runs)}
        self._joining = {
            node for node in wanted - self._possible if all(run.known(node) >= run.written - NEAR for run in runs)
        }
        able = {node for node in wanted if self._is_able(node)}
        aim = (self.agreed - self._out) | able | {self.me}
        if aim == self.agreed and self.is_sure:
            return None
        return aim

    def ask(self, nodes: Nodes) -> None:
        """Take note that the store is about to be asked for a set."""
        assert self.me in nodes
        assert all(self._is_able(node) for node in nodes - self._possible)
        self._asked.append(nodes)

    def settled(self, nodes: Iterable[str]) -> None:
        """Take note that this set is in the store, and none of those that were asked for can get there any more."""
        self.agreed = frozenset(nodes) | {self.me}
        self._asked.clear()
        self._joining -= self.agreed

    def _is_able(self, node: str) -> bool:
        """Whether a node has all that counts of all runs."""
        return all(run.is_known(node) and run.known(node) >= run.least for run in self._runs)
