"""Shares of money over nodes: whatever dies, is cut off or late, they are together never more than the limit."""

import dataclasses

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from property_kit import examples

from dspex_actors.foundation.shares import Account, Share

LIMIT = 1000
NODES = st.sampled_from("abc")


def test_a_node_that_finds_nothing_left_is_told_whether_it_comes_back():
    account = Account({"a": Share(700), "b": Share(300, is_spent=True)})
    assert account.raised("b", 300, 10, 10, LIMIT, ())[0] == "wait"
    assert account.raised("b", 300, 10, 10, LIMIT, {"a"}) == ("empty", account, 700)
    assert account.holders("b", ()) == ["a"]
    back = account.lowered("a", 600, is_spent=True)
    assert back.raised("b", 300, 101, 101, LIMIT, ()) == ("empty", back, 600)
    verdict, after, theirs = back.raised("b", 300, 100, 500, LIMIT, ())
    assert (verdict, after.shares["b"], theirs) == ("given", Share(400), 600)


def test_shares_become_smaller_with_what_is_left():
    account = Account({})
    sizes = []
    for used in (0, 250, 400):
        verdict, account, _ = account.raised("a", used, 1, LIMIT, LIMIT, ())
        assert verdict == "given"
        sizes.append(account.shares["a"].most - sum(sizes))
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) < LIMIT


@dataclasses.dataclass
class Owner:
    """A node's side: what may be spent here, what is spent, what is with its workers; a file has the last two."""

    most: int = 0
    claimed: bool = False
    used: int = 0
    spent: int = 0


class Money(RuleBasedStateMachine):
    """Three nodes, a store that compares and sets, writes that are late or lost, and nodes that die."""

    def __init__(self):
        super().__init__()
        self.value, self.version = None, 0
        self.owners = {name: Owner() for name in "abc"}
        self.late = []  # writes whose answers were lost: they may still be carried out

    def write(self, account, version):
        if version != self.version:
            return False
        self.value, self.version = account.plain(), self.version + 1
        return True

    def change(self, name, account, fate):
        """Write; return whether the node hears that it was done."""
        version = self.version
        if fate == "late":
            self.late.append((account, version))
            return False
        return self.write(account, version) and fate == "heard"

    @rule(name=NODES, fate=st.sampled_from(["heard", "lost", "late"]))
    def claim(self, name, fate):
        owner = self.owners[name]
        account = Account.of(self.value).claimed(name, owner.used)
        if not owner.claimed and self.change(name, account, fate):
            owner.most, owner.claimed = account.shares[name].most, True

    @rule(
        name=NODES,
        need=st.integers(1, 200),
        want=st.integers(1, 500),
        gone=st.sets(NODES),
        fate=st.sampled_from(["heard", "heard", "lost", "late"]),
    )
    def enlarge(self, name, need, want, gone, fate):
        owner = self.owners[name]
        if owner.claimed:
            verdict, account, _ = Account.of(self.value).raised(name, owner.used, need, want, LIMIT, gone)
            if verdict == "given" and self.change(name, account, fate):
                owner.most = account.shares[name].most
                assert owner.most >= owner.used + need

    @rule(name=NODES, amount=st.integers(1, 300))
    def give_to_workers(self, name, amount):
        owner = self.owners[name]
        if owner.claimed and owner.used + amount <= owner.most:
            owner.used += amount

    @rule(name=NODES, share=st.floats(0, 1))
    def spend(self, name, share):
        owner = self.owners[name]
        owner.spent += int((owner.used - owner.spent) * share)

    @rule(name=NODES)
    def workers_give_back(self, name):
        self.owners[name].used = self.owners[name].spent

    @rule(name=NODES, fate=st.sampled_from(["heard", "heard", "lost", "late"]))
    def lower(self, name, fate):
        owner = self.owners[name]
        if owner.claimed and owner.used < owner.most:
            owner.most = owner.used
            account = Account.of(self.value).lowered(name, owner.used, is_spent=owner.used == owner.spent)
            self.change(name, account, fate)

    @rule(name=NODES)
    def die(self, name):
        owner = self.owners[name]
        self.owners[name] = Owner(used=owner.used, spent=owner.spent)

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def carry_out(self, data):
        account, version = self.late.pop(data.draw(st.integers(0, len(self.late) - 1)))
        self.write(account, version)

    @invariant()
    def no_more_than_the_limit_is_spent_or_may_be(self):
        assert Account.of(self.value).total <= LIMIT
        assert sum(max(owner.used, owner.most) for owner in self.owners.values()) <= LIMIT

    @invariant()
    def the_store_never_says_less_than_a_node_may_spend(self):
        account = Account.of(self.value)
        for name, owner in self.owners.items():
            assert account.shares.get(name, Share(0)).most >= max(owner.used, owner.most)


TestMoney = Money.TestCase
TestMoney.settings = settings(max_examples=examples(40), stateful_step_count=50, deadline=None)
