import logging
from decimal import Decimal

import pytest

import dspex_actors as dspex
from dspex_actors.client.labels import check_labels


class Bill(dspex.Signature):
    text: str = dspex.InputField()
    total: Decimal = dspex.OutputField()
    payer: str = dspex.OutputField()


@pytest.mark.parametrize("program", [dspex.Predict(Bill), dspex.ChainOfThought(Bill)])
@pytest.mark.parametrize(
    ("label", "told"), [("12.50", False), (12.5, False), (["1", "x"], False), ("twelve", True), (None, False)]
)
def test_a_label_that_no_output_can_equal_is_told_before_the_run(caplog, program, label, told):
    with caplog.at_level(logging.WARNING):
        check_labels(
            program, [{"text": "x", "total": label, "payer": "me"}], dspex.metrics.exact_match("total", "payer")
        )
    assert caplog.messages == (
        [
            "label total of the first example cannot be read as Decimal, the type of the output: got 'twelve'; "
            "an example with such a label counts as wrong"
        ]
        if told
        else []
    )


def test_a_file_is_looked_into_and_an_iterator_is_not(caplog, tmp_path):
    (tmp_path / "bills.csv").write_text("text,total\nx,twelve\n")
    rows = iter([{"text": "x", "total": "twelve"}])
    metric = dspex.metrics.exact_match("total")
    with caplog.at_level(logging.WARNING):
        check_labels(dspex.Predict(Bill), rows, metric)
        check_labels(dspex.Predict(Bill), tmp_path / "nothing.csv", metric)
        check_labels(dspex.Predict(Bill), [], metric)
        check_labels(len, [{"total": "twelve"}], metric)
        check_labels(dspex.Predict(Bill), [{"total": "twelve"}], len)
    assert (caplog.messages, len(list(rows))) == ([], 1)
    with caplog.at_level(logging.WARNING):
        check_labels(dspex.Predict(Bill), str(tmp_path / "bills.csv"), metric)
    assert len(caplog.messages) == 1
