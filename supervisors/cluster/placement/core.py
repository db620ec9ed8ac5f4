"""Which node a child is started on, pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from supervisors.terms.checks import check_choice
from supervisors.terms.errors import SpecError
from supervisors.terms.showing import shown

#: A node counts as so many times as slow as the fastest one at most; and an answer within so many seconds as fast.
MOST_SLOW, LEAST_TAKEN = 4.0, 0.05
#: One after the other; the least busy of those that have all labels; the least busy of all.
ROUND_ROBIN, CAPABILITY_AWARE, LOAD_BALANCED = POLICIES = ("round_robin", "capability_aware", "load_balanced")


class Candidate(Protocol):
    """What is known of a node."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def load(self) -> float:
        """How busy its host is: 1 is a whole machine."""

    @property
    def work(self) -> int:
        """How much it has in work."""

    @property
    def workers(self) -> int:
        """How much it can have in work."""

    @property
    def takes_work(self) -> bool:
        """Whether it is alive, and neither draining nor cordoned."""

    def fits(self, requires: dict[str, str] | None) -> bool:
        """Whether it has all these labels."""


def busyness(node: Candidate, placed: int, slowness: float = 1.0) -> float:
    """Return how long a node would take, in turns of the fastest one.

    Args:
        node: the node: its load, and its outstanding work for each that it can do.
        placed: how many children were placed on it by now.
        slowness: how many times as long as the fastest node it takes.
    """
    busy = node.load + node.work / max(1, node.workers) + placed
    return busy * slowness + (slowness - 1.0)  # with a child more, and without it where nobody is slow


def slowness(name: str, took: Mapping[str, float]) -> float:
    """Return how many times as long as the fastest node one takes lately: 1 to MOST_SLOW; 1 where nobody knows."""
    if name not in took:
        return 1.0
    return max(1.0, min(MOST_SLOW, took[name] / max(min(took.values()), LEAST_TAKEN)))


def choose(
    nodes: Sequence[Candidate],
    policy: str,
    requires: dict[str, str] | None,
    placed: Mapping[str, int],
    last: str,
    took: Mapping[str, float] | None = None,
) -> str | None:
    """Return the name of the node to start a child on; None: none fits.

    Args:
        nodes: the members of the cluster.
        policy: one of POLICIES.
        requires: labels that it must have, whatever the policy.
        placed: how many children were placed on each by now.
        last: the node that was taken last, for round_robin.
        took: how long each took to answer lately, in seconds.
    """
    fitting = sorted((node for node in nodes if node.takes_work and node.fits(requires)), key=lambda node: node.name)
    if not fitting:
        return None
    if policy == ROUND_ROBIN:
        return next((node.name for node in fitting if node.name > last), fitting[0].name)
    return min(
        fitting,
        key=lambda node: (busyness(node, placed.get(node.name, 0), slowness(node.name, took or {})), node.name),
    ).name


def check_policy(policy: object, requires: object) -> None:
    """Refuse what is no policy, and labels that are none."""
    check_choice("policy", policy, POLICIES)
    if requires is not None and not (
        isinstance(requires, dict) and all(isinstance(each, str) for pair in requires.items() for each in pair)
    ):
        raise SpecError.of("requires", requires, 'labels, as {"gpu": "1"}, or None')
    if policy == CAPABILITY_AWARE and not requires:
        raise SpecError(
            f"requires is invalid: got {shown(requires, 100)}, expected labels: capability_aware goes by them"
        )
