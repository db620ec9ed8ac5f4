"""What an example has cost, with all its attempts: tables."""

import pytest

from dspex_actors.runs.plan.bills import Answer, Bills


def answer(asked, tokens=None, cost=0.0, *, estimated=False, number=7):
    usage = None if tokens is None else {"input_total": tokens, "estimated": estimated}
    return Answer(number, 1, None, None, None, 0.1, usage, asked, cost, False)


@pytest.mark.parametrize(
    ("before", "last", "bill"),
    [
        ([], answer(1, 10, 0.5), (1, 10, 0.5)),
        ([answer(6)], answer(1, 10, 0.5), (7, 10, 0.5)),
        ([answer(1, 10, 0.5), answer(2, 20, 0.5)], answer(1, 10, 0.5), (4, 40, 1.5)),
        ([answer(1, 10, None)], answer(1, 10, 0.5), (2, 20, None)),
        ([answer(1, 10, 0.5)], answer(0), (1, 10, 0.5)),
        ([answer(1, 10, 0.5, number=8)], answer(1, 10, 0.5), (1, 10, 0.5)),
    ],
)
def test_bills(before, last, bill):
    bills = Bills()
    for one in before:
        bills.note(one)
    settled = bills.settle(last)
    assert (settled.asked, settled.usage["input_total"], settled.cost) == bill
    assert bills.settle(last) == last


def test_one_guess_makes_the_sum_a_guess():
    bills = Bills()
    bills.note(answer(1, 10, estimated=True))
    assert bills.settle(answer(1, 10)).usage == {"input_total": 20, "estimated": True}
