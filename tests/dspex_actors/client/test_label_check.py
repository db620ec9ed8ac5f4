import logging
from decimal import Decimal

import pytest

import dspex_actors as dspex
from dspex_actors.client.labels import check_given, check_labels


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


def example(**fields):
    return dspex.Example(**fields).with_inputs(*fields)


@pytest.mark.parametrize("program", [dspex.Predict("ticket -> team"), dspex.ChainOfThought("ticket -> team")])
def test_an_input_that_the_examples_lack_is_told_before_the_run(caplog, program):
    with caplog.at_level(logging.WARNING):
        check_given(program, [example(question="x"), example(ticket="x")])
    assert caplog.messages == [
        "the first example lacks ticket, an input of the program; its own are question: name them alike, and mark them "
        "by with_inputs(...)"
    ]


@pytest.mark.parametrize(
    "devset", [[example(ticket="x")], [example(ticket="x", more="y")], [{"question": "x"}], [], "rows.jsonl", iter([])]
)
def test_one_that_is_there_or_that_others_look_after_is_not(caplog, devset):
    with caplog.at_level(logging.WARNING):
        check_given(dspex.Predict("ticket, note: str | None -> team"), devset)
    assert caplog.messages == []


def test_code_of_the_users_says_itself_what_it_lacks(caplog):
    class Own(dspex.Module):
        def __init__(self):
            self.say = dspex.Predict("ticket -> team")

        def forward(self, question):
            return self.say(ticket=question)

    with caplog.at_level(logging.WARNING):
        check_given(Own(), [example(question="x")])
    assert caplog.messages == []
