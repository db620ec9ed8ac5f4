"""Batches as OpenAI and Anthropic write them."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.lm.batches.formats import FORMATS, Standing, found_again, name_of, number_of, progress_text

OPENAI, ANTHROPIC = FORMATS["openai"], FORMATS["anthropic"]
TAGS = st.text("0123456789abcdef", min_size=24, max_size=24)


@given(TAGS, st.integers(0, 10**17), TAGS)
def test_a_request_is_found_by_its_name_and_no_other_batch_has_it(tag, number, other):
    name = name_of(tag, number)
    assert len(name) <= 64
    assert number_of(tag, name) == number
    assert (number_of(other, name) is None) == (other != tag)


@pytest.mark.parametrize("name", ["", "-", "a-", "a--1", "a-1-2", "b-1", "a-x", "a-\u0661", "a-" + "1" * 40])
def test_what_is_no_name_of_ours_is_none(name):
    assert number_of("a", name) is None


def test_requests_stand_in_a_batch_as_they_are_told():
    body = b'{"model":"m"}'
    line = json.loads(OPENAI.item("t-1", "/v1/chat/completions", body))
    assert line == {"custom_id": "t-1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m"}}
    items = [ANTHROPIC.item(f"t-{n}", "", body) for n in (1, 2)]
    whole = json.loads(ANTHROPIC.before + ANTHROPIC.between.join(items) + ANTHROPIC.behind)
    assert whole == {"requests": [{"custom_id": f"t-{n}", "params": {"model": "m"}} for n in (1, 2)]}


OF_OPENAI = {
    "id": "batch_1", "status": "completed", "created_at": 1745587773, "output_file_id": "file-1", "error_file_id": None,
    "request_counts": {"total": 3, "completed": 2, "failed": 1}, "metadata": {"dspex_batch": "t"},
}  # fmt: skip
OF_ANTHROPIC = {
    "id": "msgbatch_1", "processing_status": "in_progress", "created_at": "2024-08-20T18:37:24.100435Z",
    "request_counts": {"processing": 3, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
}  # fmt: skip


def test_a_batch_tells_how_it_stands():
    assert OPENAI.standing(OF_OPENAI) == Standing(
        "batch_1", 1745587773.0, 3, 3, has_ended=True, tag="t", files=("/files/file-1/content",)
    )
    assert OPENAI.standing(OF_OPENAI | {"status": "validating", "request_counts": None, "metadata": None}).size == 0
    running = ANTHROPIC.standing(OF_ANTHROPIC)
    assert (running.size, running.done, running.has_ended, running.files) == (3, 0, False, ())
    ended = ANTHROPIC.standing(OF_ANTHROPIC | {"processing_status": "ended", "request_counts": {"succeeded": 3}})
    assert (ended.done, ended.files) == (3, ("/v1/messages/batches/msgbatch_1/results",))
    failed = {"status": "failed", "errors": {"data": [{"code": "token_limit_exceeded", "message": "too many"}]}}
    assert OPENAI.standing(OF_OPENAI | failed).why == ("token_limit_exceeded", "too many")


@pytest.mark.parametrize("name", ["../files", "a/b", "", None, 7, "a?b", "a b", "x" * 300, "é"])
def test_an_id_that_would_change_an_address_is_none(name):
    with pytest.raises(ValueError, match=rf"^{re.escape(str(name))}$"):
        OPENAI.standing(OF_OPENAI | {"id": name})
    with pytest.raises(ValueError, match=rf"^{re.escape(str(name))}$"):
        ANTHROPIC.standing(OF_ANTHROPIC | {"id": name})
    if name and isinstance(name, str):
        with pytest.raises(ValueError, match=rf"^{re.escape(name)}$"):
            OPENAI.standing(OF_OPENAI | {"output_file_id": name})


def test_results_are_read():
    answer = {"status_code": 200, "request_id": "req_1", "body": {"a": 1}}
    line = OPENAI.line({"custom_id": "t-1", "response": answer, "error": None})
    assert (line.fate, line.status, line.body, line.request_id) == ("answered", 200, b'{"a":1}', "req_1")
    late = OPENAI.line({"custom_id": "t-1", "response": None, "error": {"code": "batch_expired"}})
    assert late.fate == "expired"
    assert OPENAI.line({"custom_id": "t-1", "error": {"code": "batch_cancelled"}}).fate == "cancelled"
    assert OPENAI.line({"custom_id": "t-1", "response": None, "error": {"code": "x"}}).status == 500
    for kind, fate in (("expired", "expired"), ("canceled", "cancelled")):
        assert ANTHROPIC.line({"custom_id": "t-1", "result": {"type": kind}}).fate == fate
    good = ANTHROPIC.line({"custom_id": "t-1", "result": {"type": "succeeded", "message": {"id": "msg_1"}}})
    assert (good.status, good.request_id) == (200, "msg_1")
    for error in (
        {"type": "error", "error": {"type": "invalid_request_error", "message": "m"}},
        {"type": "invalid_request_error", "message": "m"},
    ):
        bad = ANTHROPIC.line({"custom_id": "t-1", "result": {"type": "errored", "error": error}})
        assert (bad.status, json.loads(bad.body)["error"]["message"]) == (400, "m")


def standing(remote, made=100.0, size=3, tag=None):
    return Standing(remote, made, size, 0, has_ended=False, tag=tag)


def test_a_batch_is_found_again_by_its_name_or_where_there_is_none_by_its_size():
    listed = [
        standing("mine", tag="t"),
        standing("other", tag="u"),
        standing("nobody's"),
        standing("old", 1.0, tag="t"),
    ]
    assert [one.remote for one in found_again("t", 3, 50.0, [], listed, by_size=False)] == ["mine"]
    listed = [standing("three"), standing("four", size=4), standing("known"), standing("old", 1.0)]
    assert [one.remote for one in found_again("t", 3, 50.0, ["known"], listed, by_size=True)] == ["three"]


def test_how_batches_stand_is_said_in_words():
    assert progress_text(1200, 300, 1, 0.0, 7300.0) == "batch of 1,200: 300 done, submitted 2 h ago"
    assert progress_text(60_000, 0, 2, 0.0, 59.0) == "2 batches of 60,000 together: 0 done, submitted 59 s ago"
    assert progress_text(5, 0, 1, None, 7300.0) == "batch of 5: being submitted"
