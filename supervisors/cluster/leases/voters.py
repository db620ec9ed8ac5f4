"""Who votes, pure: which nodes keep the copies of the table of leases, and how they come to be others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

#: A voter that is down is replaced after so many seconds, where another node can take its place.
REPLACED_SECONDS = 30.0
#: There are never more.
MOST = 5


def plan_voters(now: tuple[str, ...], nodes: Mapping[str, float]) -> tuple[str, ...]:
    """Return who is to vote: the largest odd number of nodes, up to 5; those that vote already stay if they are well.

    Voters that are down count as nodes: a cluster does not become smaller because half of it cannot be seen.

    Args:
        now: those that vote.
        nodes: the full nodes of the cluster, by age if that is known, and for how many seconds each is down (0: it is
            up; those that have left, or are about to leave, are not there).
    """
    known = {*nodes, *now}
    size = min(MOST, len(known) if len(known) % 2 else len(known) - 1)
    left = [name for name in now if name not in nodes]  # nobody waits for them
    gone = left + [name for name in now if name in nodes and nodes[name] > REPLACED_SECONDS]
    up = [name for name, down in nodes.items() if not down and name not in now]
    kept = [name for name in now if name not in gone]
    while gone and up and len(kept) < size:
        kept.append(up.pop(0))
        gone.pop(0)
    kept += [name for name in gone if name not in left]
    while len(kept) < size and up:
        kept.append(up.pop(0))
    if not left:  # else those go first: with one that stays out before them, theirs might be the vote that is missing
        size = min(size, len(kept) if len(kept) % 2 else len(kept) - 1)
    return tuple(kept[:size]) or now


def next_step(now: Sequence[str], wished: Collection[str], me: str, heard: Collection[str]) -> list[str] | None:
    """Return the voters as they are after one step, one voter more or less; None: there is none to be taken now.

    A step counts when a majority of the voters behind it has it: so one of whose voters too few answer is not taken,
    for it could never be taken back. Those that do not answer go first, who leads goes last.

    Args:
        now: the voters.
        wished: whom to come to; those that are new are ready.
        me: who leads.
        heard: the others that answer.
    """
    fresh = [name for name in wished if name not in now]
    surplus = [name for name in now if name not in wished]
    surplus.sort(key=lambda name: (name == me, name in heard))
    steps = [[*now, fresh[0]]] if fresh else [[name for name in now if name != gone] for gone in surplus]
    return next((step for step in steps if 2 * sum(n == me or n in heard for n in step) > len(step)), None)
