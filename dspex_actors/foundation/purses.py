"""Money with a limit, shared by processes: who may spend how much. Pure; amounts are whole millionths of a millionth.

An account of calls is kept in the same way; of these each request takes one, and a purse has money or calls.

An *account* has a limit: a run's budget, what a day may cost. Its owner keeps a `Book`. Who spends keeps a `Purse` for
a set of accounts: it holds what the owner has given, and every request takes the most that it may cost out of it before
it is sent. So what is spent, what is held back for requests under way and what lies in purses are together never more
than the limit, whoever dies when:

* what is given is written down before it is handed out; what is spent out of a purse stands where it outlives its
  holder;
* of a holder that died, what it had spent and what it had held back counts as spent, and the rest is free again;
* what is given, and what is given back, are told as totals: a message that comes twice, late or never changes nothing.

What is given shrinks with what is left (a fair part of it, and what one request needs at least), so that little lies
idle near the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

#: So many make a dollar.
DOLLAR = 10**12
#: Names of accounts, sorted: what is taken out of a purse counts for all of them.
Accounts = tuple[str, ...]
#: Whose, and which of its purses.
PurseId = tuple[str, int]


#: In the name of an account of calls.
CALLS = "#calls-"
#: What a refusal ends with for which there is no call left.
CALLS_MADE = "calls are made"


def unit_of(account: str) -> int:
    """Return how many of an account's amounts make a dollar, or a call."""
    return 1 if CALLS in account else DOLLAR


def units(dollars: float) -> int:
    """Return an amount as a whole number, rounded up."""
    return math.ceil(dollars * DOLLAR)


@dataclass(slots=True)
class Purse:
    """What its holder may spend.

    Args:
        given: by the owner, in all.
        returned: to the owner, in all.
        spent: on requests that have ended.
        held: for requests that are under way: the most that each may cost.
    """

    given: int = 0
    returned: int = 0
    spent: int = 0
    held: int = 0

    @property
    def free(self) -> int:
        """What lies in it; below 0 where requests have cost more than was thought possible."""
        return self.given - self.returned - self.spent - self.held

    def hold(self, amount: int) -> bool:
        """Hold an amount back, if it is there."""
        if amount > self.free:
            return False
        self.held += amount
        return True

    def settle(self, amount: int, cost: int) -> None:
        """Take note that a request has ended for which an amount was held back, and what it has cost."""
        self.spent += cost
        self.held -= amount

    def give_back(self) -> bool:
        """Give back what lies in it; return whether that was anything."""
        free = max(0, self.free)
        self.returned += free
        return free > 0


@dataclass(frozen=True, slots=True)
class Used:
    """What is known of a purse from where it stands: spent, and held back."""

    spent: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a holder is told that asked for money.

    Args:
        verdict: given - there is more; wait - it may come back from others or from requests under way; empty - it will
            not, unless the limit is raised.
        given: in all, this time included.
        account: of an empty one: which; where nobody can tell whether there is more, what is waited for.
        spent: of it, or held back where nobody knows the end.
        limit: of it.
    """

    verdict: Literal["given", "wait", "empty"]
    given: int
    account: str = ""
    spent: int = 0
    limit: int = 0


@dataclass(slots=True)
class Given:
    """A purse as its owner knows it."""

    accounts: Accounts
    given: int = 0
    returned: int = 0

    @property
    def out(self) -> int:
        """What is not back."""
        return self.given - self.returned


@dataclass(slots=True)
class Book:
    """What accounts have spent, and what is out in purses. All of it outlives its owner: it is made of what is written.

    Args:
        spent: account → out of purses that are closed.
        purses: those that are open.
    """

    spent: dict[str, int] = field(default_factory=dict)
    purses: dict[PurseId, Given] = field(default_factory=dict)

    def open(self, purse: PurseId, accounts: Accounts) -> Given:
        """Return an open purse, a new one where there is none."""
        found = self.purses.get(purse)
        if found is None:
            found = self.purses[purse] = Given(accounts)
        return found

    def out(self, account: str) -> int:
        """Return what an account has spent, and what is out of it."""
        return self.spent.get(account, 0) + sum(one.out for one in self.purses.values() if account in one.accounts)

    def take_back(self, purse: PurseId, returned: int) -> bool:
        """Take note of what a purse has given back in all; return whether that was new."""
        found = self.purses.get(purse)
        if found is None or returned <= found.returned:
            return False
        found.returned = min(returned, found.given)
        return True

    def ask(
        self, purse: PurseId, need: int, want: int, limits: Mapping[str, int], used: Mapping[PurseId, Used]
    ) -> Answer:
        """Decide on a purse that needs more.

        Args:
            purse: an open one.
            need: so much at least, beside what lies in it.
            want: so much, where there is plenty.
            limits: of its accounts.
            used: what is known of the open purses; of one that is missing nothing: all that is out counts as spent.
        """
        mine = self.purses[purse]
        left = {account: limits[account] - self.out(account) for account in mine.accounts}
        free = min(left.values())
        if free >= need:
            holders = len({other for other, one in self.purses.items() if set(one.accounts) & set(mine.accounts)})
            mine.given += max(need, min(want, free // (2 * max(2, holders))))
            return Answer("given", mine.given)
        for account in mine.accounts:
            spent, held, own = self.spent.get(account, 0), 0, 0
            for other, one in self.purses.items():
                if account in one.accounts:
                    known = used.get(other, Used(one.out))
                    spent += known.spent
                    held += known.held
                    own = max(0, one.out - known.spent - known.held) if other == purse else own
            # What lies in the asker's own purse is no help: it needs this beside it.
            if held == 0 and limits[account] - spent - own < need:
                return Answer("empty", mine.given, account, spent, limits[account])
        return Answer("wait", mine.given)

    def close(self, purse: PurseId, used: Used | None) -> None:
        """Take note that a purse is no more: what was spent or held back out of it is spent.

        Args:
            purse: it; one that is closed already is passed over.
            used: what is known of it; None: nothing, so all that is out counts.
        """
        found = self.purses.pop(purse, None)
        if found is not None:
            cost = found.out if used is None else used.spent + used.held
            for account in found.accounts:
                self.spent[account] = self.spent.get(account, 0) + cost

    def holders_of(self, accounts: Iterable[str], used: Mapping[PurseId, Used], but: PurseId | None = None) -> set[str]:
        """Return who has money of these accounts lying in a purse, in another one than `but`."""
        wanted = set(accounts)
        return {
            purse[0]
            for purse, one in self.purses.items()
            if purse != but
            and wanted & set(one.accounts)
            and one.out > (known := used.get(purse, Used(one.out))).spent + known.held
        }
