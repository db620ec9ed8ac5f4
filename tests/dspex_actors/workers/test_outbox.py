"""Results on their way: in batches of bounded size, kept until they are written."""

from dspex_actors.lm.attempts import Attempt
from dspex_actors.runs.work import Result
from dspex_actors.workers import outbox
from dspex_actors.workers.outbox import BATCH, BATCH_BYTES, MOST_BYTES, PIECE_BYTES, Outbox


def result(index, size=10):
    return Result(index=index, send=1, prediction=b"x" * size)


def indices(results):
    return [one.index for one in results]


def everything(box):
    found, more = [], True
    while more:
        rest = box.take_piece()
        assert sum(len(one.prediction or b"") for one in rest.results[:-1]) <= PIECE_BYTES
        found += indices(rest.results)
        more = rest.more
    return found


def test_a_batch_is_full_by_number_or_by_bytes():
    box = Outbox()
    for index in range(BATCH - 1):
        box.add(b"", result(index))
    assert not box.is_full
    box.add(b"", result(BATCH))
    assert box.is_full
    box.next_batch()
    box.add(b"p" * BATCH_BYTES, result(1))
    assert box.is_full


def test_what_was_sent_is_kept_until_it_is_written():
    box = Outbox()
    assert box.next_batch() is None
    for index in range(3):
        box.add(b"", result(index))
        assert box.next_batch()[0] == index + 1
    assert indices(box.written(2)) == [0, 1]
    assert box.written(2) == []
    box.add(b"", result(7))
    assert everything(box) == [2, 7]
    assert everything(box) == []


def test_what_is_handed_over_goes_in_pieces():
    box = Outbox()
    for index in range(9):
        box.add(b"", result(index, PIECE_BYTES // 3))
        if index % 2:
            box.next_batch()
    assert everything(box) == list(range(9))


def test_a_result_that_is_too_large_is_an_error_of_its_example(monkeypatch):
    paid = [Attempt(3, 2, 1, 0.0, "openai", "m", "answered")]
    box = Outbox()
    box.add(b"example", Result(index=3, send=2, prediction=b"x" * (MOST_BYTES + 1), score=1.0, attempts=paid))
    box.add(b"", result(4))
    _, (large, small) = box.next_batch()
    assert (large.index, large.send, large.prediction, large.score, large.again) == (3, 2, None, None, "no")
    assert large.error["type"] == "CodecError"
    assert f"at most {outbox.MOST_BYTES:,} can be kept" in large.error["message"]
    assert large.attempts == paid
    assert small.error is None
