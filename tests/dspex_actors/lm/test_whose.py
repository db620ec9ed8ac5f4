"""For whom a call is, and what for: it goes with the call, and changes nothing of it."""

import pytest

import dspex_actors as dspex
from dspex_actors.lm.backend import through
from dspex_actors.lm.reply import LMReply


class Seen:
    """A backend that keeps what it is asked."""

    def __init__(self):
        self.requests = []

    def complete(self, request):
        self.requests.append(request)
        return LMReply("hi")


@pytest.fixture
def seen():
    made = Seen()
    with through(made):
        yield made


def test_a_call_has_the_user_and_the_tags_of_what_is_around_it(seen):
    lm = dspex.LM("openai/x")
    lm("a")
    with dspex.context(user="ada", tags={"team": "search"}):
        lm("a")
        lm("a", tags={"step": "2"}, temperature=0.5)
        lm("a", user="bob", tags={"team": "ads"})
    found = [(each.user, dict(each.tags or {})) for each in seen.requests]
    assert found == [
        (None, {}),
        ("ada", {"team": "search"}),
        ("ada", {"team": "search", "step": "2"}),
        ("bob", {"team": "ads"}),
    ]


def test_they_are_in_no_identity(seen):
    lm = dspex.LM("openai/x")
    lm("a")
    lm("a", tags={"team": "search"})
    with dspex.context(user="ada"):
        lm("a")
    assert len({each.cache_key for each in seen.requests}) == 1
    assert all("tags" not in each.params for each in seen.requests)


@pytest.mark.parametrize(
    "tags",
    [{"a=b": "c"}, {"": "x"}, {"a": ""}, {"a": 1}, ["a"], "a", {"a": "x" * 101}, {str(n): "x" for n in range(17)}],
)
def test_tags_that_are_none_are_refused_in_one_line(seen, tags):
    for refused in (lambda: dspex.LM("openai/x")("a", tags=tags), lambda: dspex.context(tags=tags).__enter__()):
        with pytest.raises(dspex.ConfigError, match=r"^tags is invalid: got .*, expected ") as caught:
            refused()
        assert "\n" not in str(caught.value)
    assert not seen.requests


@pytest.mark.parametrize("user", ["", 3, "x" * 101, "a\nb"])
def test_a_user_that_is_none_is_refused(user):
    with pytest.raises(dspex.ConfigError, match=r"^user is invalid: got .*, expected a text of 1 to 100"):
        dspex.context(user=user).__enter__()
