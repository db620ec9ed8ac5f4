"""A program's end of a session: what is asked, and what becomes of it when the coordinator dies at any moment."""

import queue

import pytest

from dspex_actors.ecosystem.inference.asking import Asking, asking_of
from dspex_actors.ecosystem.inference.messages import Answer, Answers
from supervisors.errors import NoProcess, ServerExited


class FakeRequest:
    def __init__(self, message):
        self.message, self._function, self._outcome = message, None, None

    def when_done(self, function):
        self._function = function

    def result(self):
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def end(self, outcome):
        self._outcome = outcome
        self._function(self)


class FakeNode:
    """Takes what is sent; the test answers."""

    def __init__(self):
        self.calls, self.casts = queue.Queue(), queue.Queue()

    def send_request(self, name, message):
        request = FakeRequest(message)
        self.calls.put(request)
        return request

    def cast(self, name, message):
        self.casts.put(message)


def answers(*numbers):
    return Answers(list(numbers), [Answer(asked=number) for number in numbers])


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture
def asking(node):
    return Asking(node, "coordinator")


def asked(asking, node, *, by="calls"):
    """Ask; return the future, and the call or cast by which it went."""
    number, future = asking.ask("key", b"inputs", 5.0, b"")
    sent = getattr(node, by).get(timeout=60)
    message = sent.message if by == "calls" else sent
    assert [row.number for row in message.asked] == [number]
    return number, future, sent


def test_one_call_is_always_open(asking, node):
    number, future, call = asked(asking, node)
    call.end(answers(number))
    assert future.result(60).asked == number
    assert node.calls.get(timeout=60).message.asked == []


def test_beside_two_open_calls_a_known_coordinator_is_sent_casts(asking, node):
    number, first, call = asked(asking, node)
    call.end(answers(number))
    node.calls.get(timeout=60)
    _, _, second = asked(asking, node)
    third, future, _ = asked(asking, node, by="casts")
    second.end(answers(third))
    assert future.result(60).asked == third
    assert first.result(60).asked == number


def test_before_it_has_answered_nothing_is_sent_that_may_get_lost(asking, node):
    futures = [asked(asking, node)[1] for _ in range(5)]
    assert node.casts.empty()
    assert not any(future.done() for future in futures)


def test_when_it_dies_all_that_it_was_asked_ends_at_once(asking, node):
    number, first, call = asked(asking, node)
    call.end(answers(number))
    idle = node.calls.get(timeout=60)
    _, second, late = asked(asking, node)
    _, third, _ = asked(asking, node, by="casts")
    idle.end(ServerExited("killed", reason=None))
    for future in (second, third):
        with pytest.raises(ServerExited):
            future.result(60)
    assert first.done()

    # What is asked now is of the next one: a call of the old session that fails late does it no harm.
    number, fourth, call = asked(asking, node)
    late.end(ServerExited("killed", reason=None))
    assert not fourth.done()
    call.end(answers(number))
    assert fourth.result(60).asked == number
    assert node.calls.get(timeout=60).message.asked == []  # and one call is open again


def test_where_nobody_was_asked_only_that_is_said(asking, node):
    _, first, call = asked(asking, node)
    _, second, other = asked(asking, node)
    call.end(NoProcess("nobody", reason=None))
    with pytest.raises(NoProcess):
        first.result(60)
    assert not second.done()
    other.end(NoProcess("nobody", reason=None))
    with pytest.raises(NoProcess):
        second.result(60)


def test_casts_that_nobody_has_heard_end_with_the_last_call(asking, node):
    number, _, call = asked(asking, node)
    call.end(answers(number))
    idle = node.calls.get(timeout=60)
    _, asked_by_call, last = asked(asking, node)
    _, asked_by_cast, _ = asked(asking, node, by="casts")
    idle.end(answers())
    last.end(NoProcess("nobody", reason=None))
    with pytest.raises(NoProcess):
        asked_by_call.result(60)
    with pytest.raises(ServerExited):
        asked_by_cast.result(60)


def test_what_is_given_up_is_told_and_its_answer_dropped(asking, node):
    number, future, call = asked(asking, node)
    asking.give_up(number)
    assert node.calls.get(timeout=60).message.given_up == [number]
    call.end(answers(number))
    assert not future.done()


def test_what_is_given_up_before_it_was_sent_is_done_for_nobody(asking, node):
    with asking._news:  # the thread that sends waits for it
        number, _ = asking.ask("key", b"inputs", 5.0, b"")
        asking.give_up(number)
        other, _ = asking.ask("key", b"inputs", 5.0, b"")
    assert [row.number for row in node.calls.get(timeout=60).message.asked] == [other]


def test_a_program_has_one_session_with_a_coordinator_however_often_it_is_looked_up(node):
    one = asking_of(node, "coordinator")
    assert asking_of(node, "coordinator") is one
    assert asking_of(node, "another") is not one
    assert asking_of(FakeNode(), "coordinator") is not one
