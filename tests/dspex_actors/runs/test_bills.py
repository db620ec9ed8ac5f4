"""What an example has cost, with all its attempts: tables."""

import pytest

from dspex_actors.journal.schema import from_json, to_json
from dspex_actors.lm.attempts import Attempt
from dspex_actors.runs.plan.bills import Bills


def paid(count, tokens=None, cost=0.0, *, estimated=False, outcome="answered"):
    """Return so many requests that have used `tokens` and cost `cost` each."""
    usage = None if tokens is None else to_json({"input_total": tokens, "estimated": estimated})
    row = Attempt(index=7, send=1, n=1, at=0.0, provider="p", model="m", outcome=outcome, usage=usage, cost=cost)
    return [row] * count


@pytest.mark.parametrize(
    ("before", "last", "bill"),
    [
        ([], paid(1, 10, 0.5), (1, 10, 0.5)),
        ([(7, paid(6, 0, outcome="failed"))], paid(1, 10, 0.5), (7, 10, 0.5)),
        ([(7, paid(1, 10, 0.5)), (7, paid(2, 20, 0.25))], paid(1, 10, 0.5), (4, 60, 1.5)),
        ([(7, paid(1, 10, None))], paid(1, 10, 0.5), (2, 20, None)),
        ([(7, paid(1, 10, 0.5))], [], (1, 10, 0.5)),
        ([(8, paid(1, 10, 0.5))], paid(1, 10, 0.5), (1, 10, 0.5)),
    ],
)
def test_bills(before, last, bill):
    bills = Bills()
    for index, attempts in before:
        bills.note(index, attempts)
    settled = bills.settle(7, last)
    assert (settled.asked, from_json(settled.usage)["input_total"], settled.cost) == bill
    assert bills.settle(7, last).asked == len(last)


def test_one_guess_makes_the_sum_a_guess():
    bills = Bills()
    bills.note(7, paid(1, 10, estimated=True))
    assert from_json(bills.settle(7, paid(1, 10)).usage) == {"input_total": 20, "estimated": True}


def test_why_an_answer_ended_is_what_the_last_one_said():
    cut = Attempt(index=7, send=1, n=1, at=0.0, provider="p", model="m", outcome="answered", finish_reason="length")
    assert Bills().settle(7, [*paid(1, 10), cut, *paid(1, outcome="failed")]).finish_reason == "length"
