"""Programs and metrics of many kinds, made anew by each call: what their identities are is compared."""

import collections
import dataclasses
import datetime as dt
import enum
import functools
import logging
import re
import threading
from decimal import Decimal
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel

import dspex_actors as dspex

LIMIT = 3
WORDS = {"billing", "bugs", "accounts"}
log = logging.getLogger(__name__)


def long_enough(text):
    return len(text) > LIMIT


class Team(enum.Enum):
    BUGS = "bugs"
    BILLING = "billing"


class Person(BaseModel):
    name: str
    age: int = 3
    team: Team | None = None


class Sort(dspex.Signature):
    """Sort a ticket."""

    ticket: str = dspex.InputField()
    person: Person = dspex.OutputField()
    team: Literal["billing", "bugs"] = dspex.OutputField(desc="who handles it")
    urgency: int = dspex.OutputField(ge=1, le=5)


class Base(dspex.Module):
    def clean(self, text):
        return text.strip() if long_enough(text) else text


class Desk(Base):
    kinds = ("a", "b")

    def __init__(self, threshold=0.5):
        self.threshold = threshold
        self.pattern = re.compile("a+")
        self.lock = threading.Lock()
        self.words = set(WORDS)
        self.sort = dspex.Predict(Sort, temperature=0.3)
        self.steps = [dspex.ChainOfThought("ticket -> note"), dspex.Predict("note -> answer: int")]

    def forward(self, ticket):
        return self.sort(ticket=self.clean(ticket))


def plain(example, prediction, trace=None):
    log.debug("scored")
    return prediction.team in WORDS and long_enough(prediction.team)


def closure(limit=3, tags=("x",)):
    known = {"a", "b", "c"}

    def metric(example, prediction, trace=None):
        return prediction.n > limit and prediction.kind in known and tags

    return metric


class Judge:
    """A callable with attributes."""

    def __init__(self, limit=3):
        self.limit = limit
        self.known = {f"word{n}" for n in range(20)}
        self.queue = collections.deque([1, 2])
        self.made = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        self.path = Path("a") / "b"
        self.price = Decimal("1.50")
        self.opaque = object()
        self.lock = threading.RLock()

    @functools.cached_property
    def slow(self):
        return object()

    def __call__(self, example, prediction, trace=None):
        return prediction.n > self.limit

    def score(self, example, prediction, trace=None):
        return self(example, prediction)


@dataclasses.dataclass(frozen=True)
class Between:
    low: float = 0.0
    high: float = 1.0

    def __call__(self, example, prediction, trace=None):
        return self.low <= prediction.x <= self.high


def with_argument(limit, example, prediction, trace=None):
    return prediction.n > limit


def circular():
    def metric(example, prediction, trace=None):
        return metric is not None

    metric.notes = {"self": metric}
    return metric


METRICS = {
    "plain": lambda: plain,
    "closure": closure,
    "lambda": lambda: lambda example, prediction, trace=None: prediction.x in {"a", "b", "c", "d"},
    "partial": lambda: functools.partial(with_argument, 3),
    "object": Judge,
    "bound method": lambda: Judge().score,
    "dataclass": Between,
    "cached": lambda: functools.lru_cache(plain),
    "circular": circular,
    "ours": lambda: dspex.metrics.exact_match("team", "person"),
    "evaluated": lambda: eval("lambda example, prediction, trace=None: prediction.x in {'a', 'b', 'c'}"),
}


def with_demos():
    program = Desk()
    demo = dspex.Example(ticket="t", team="bugs", tags={"x", "y", "z"}, person=Person(name="A", team=Team.BUGS))
    program.sort.demos = [demo.with_inputs("ticket")]
    return program


def with_lm():
    program = dspex.Predict(Sort)
    program.set_lm(dspex.LM("openai/gpt-4o", temperature=0.5, fallbacks=["anthropic/x", dspex.LM("cohere/y", seed=3)]))
    return program


def function_program(ticket):
    return dspex.Prediction(team=ticket)


PROGRAMS = {
    "predict": lambda: dspex.Predict("ticket -> team"),
    "signature class": lambda: dspex.Predict(Sort),
    "chain of thought": lambda: dspex.ChainOfThought(Sort),
    "module": Desk,
    "with demos": with_demos,
    "with an LM": with_lm,
    "function": lambda: function_program,
}


@dataclasses.dataclass
class Point:
    x: int
    tags: frozenset = frozenset({"p", "q", "r"})


class Plain:
    def __init__(self, size=1):
        self.size = size
        self.words = {"k", "l", "m"}


VALUES = {
    "pydantic": lambda: Person(name="A", team=Team.BUGS),
    "enum": lambda: Team.BUGS,
    "dataclass": lambda: Point(1),
    "object": Plain,
    "another object": lambda: Plain(2),
    "objects in a set in a tuple": lambda: ({Team.BUGS, Team.BILLING}, 1),
    "zone": lambda: dt.datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),
    "set": lambda: {"a", "b", "c"},
    "text": lambda: "a",
}
