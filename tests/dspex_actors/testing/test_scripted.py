"""A scripted LM in one process: order, what it raises, what it remembers."""

import asyncio
import copy
import gc
import pickle
import threading
from pathlib import Path

import pytest

import dspex_actors as dspex
from dspex_actors.lm.reply import LMReply
from dspex_actors.runs.identity.parts import lm_identity


def test_it_answers_in_order_and_says_when_it_has_run_out():
    reply = LMReply(text="reply", model="m")
    lm = dspex.testing.scripted_lm(
        ["text", reply, {"text": "dict"}, ValueError("no"), KeyError, lambda messages, **params: params["x"]]
    )
    assert lm("1").text == "text"
    assert lm("2") is reply
    assert asyncio.run(lm.acall("3")).text == "dict"
    with pytest.raises(ValueError, match="no"):
        lm("4")
    with pytest.raises(KeyError):
        lm("5")
    assert lm("6", x="seen").text == "seen"
    with pytest.raises(dspex.ConfigError, match="has run out of answers: this is call 7, and it has 6"):
        lm("7")
    assert [call.messages for call in lm.calls] == [[{"role": "user", "content": str(n)}] for n in range(1, 8)]
    assert lm.calls[5].params == {"x": "seen"}


def test_it_is_the_same_lm_whenever_it_is_made():
    one, same = dspex.testing.scripted_lm([ValueError("no")]), dspex.testing.scripted_lm(["another answer"])
    other = dspex.testing.scripted_lm(["x"], "large")
    with pytest.raises(ValueError, match="no"):
        one("?")
    assert lm_identity(one) == lm_identity(same)
    assert lm_identity(one) != lm_identity(other)


def test_its_copies_share_one_script():
    lm = dspex.testing.scripted_lm([str(n) for n in range(6)])
    copies = [lm, pickle.loads(pickle.dumps(lm)), copy.deepcopy(lm), lm.copy(temperature=1.0)]
    assert [one("?").text for one in copies] == ["0", "1", "2", "3"]
    assert len(lm.calls) == len(copies[1].calls) == 4


def test_calls_from_many_threads_each_get_an_answer_of_their_own():
    lm, found = dspex.testing.scripted_lm([str(n) for n in range(40)]), []
    threads = [threading.Thread(target=lambda: found.append(lm("?").text)) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, found)) == list(range(40))


def test_its_file_goes_with_it_and_not_with_a_copy():
    lm = dspex.testing.scripted_lm(["x"])
    tape = Path(lm.history.tape)
    other = pickle.loads(pickle.dumps(lm))
    del other
    gc.collect()
    assert tape.exists()
    del lm
    gc.collect()
    assert not tape.exists()


@pytest.mark.parametrize("answers", [7, None, "text", [7], [None], [dict], [{"no": "text"}]])
def test_what_is_no_answer_is_refused_when_it_is_made(answers):
    with pytest.raises(dspex.ConfigError, match=r"of a scripted LM (is|are) invalid"):
        dspex.testing.scripted_lm(answers)


def test_events_are_captured_without_a_node_too():
    class Happened(dspex.Event):
        what: str

    from dspex_actors.foundation.events.outlet import emit

    with dspex.testing.capture_events() as events:
        emit(Happened(what="now"))
        with dspex.operation("op"):
            pass
    emit(Happened(what="later"))
    assert [event.type for event in events] == ["Happened", "operation.started", "operation.completed"]
