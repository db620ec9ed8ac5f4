"""Programs, metrics and an LM for test_same_as_call: what a user's script may hold."""

import asyncio
import dataclasses
import datetime as dt
import enum
import functools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from pydantic import BaseModel

import dspex_actors as dspex
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.usage import Usage


class Person(BaseModel):
    name: str
    age: int = 36


@dataclasses.dataclass
class Place:
    city: str
    zip: int


class Team(enum.Enum):
    BUGS = "bugs"
    BILLING = "billing"


#: What the LM says for each output.
ANSWERS = {
    "reasoning": "because",
    "person": {"name": "Ada", "age": 36},
    "place": {"city": "Ulm", "zip": 89073},
    "team": "bugs",
    "price": "12.5",
    "day": "2024-05-01",
    "at": "2024-05-01T10:00:00",
    "tags": ["a", "b"],
    "pair": [1, "x"],
    "urgent": "true",
    "note": "null",
    "word": "yes",
}


class Typed(dspex.Signature):
    """Read the ticket."""

    ticket: str = dspex.InputField()
    person: Person = dspex.OutputField()
    place: Place = dspex.OutputField()
    team: Team = dspex.OutputField()
    price: Decimal = dspex.OutputField()
    day: dt.date = dspex.OutputField()
    at: dt.datetime = dspex.OutputField()
    tags: set[str] = dspex.OutputField()
    pair: tuple[int, str] = dspex.OutputField()
    urgent: bool = dspex.OutputField()
    note: Person | None = dspex.OutputField()


class Answering:
    """A backend, and an LM of a user's own: says `ANSWERS` in the form that is asked for."""

    def __init__(self):
        self.asked = []
        self.answers = dict(ANSWERS)
        self.finish_reason = "stop"

    def complete(self, request):
        return self(request.messages, **request.params)

    async def acomplete(self, request):
        await asyncio.sleep(0)
        return self.complete(request)

    def __call__(self, messages, **params):
        self.asked.append(messages)
        if "JSON object" in messages[0]["content"]:
            text = json.dumps(self.answers)
        else:
            texts = {name: one if isinstance(one, str) else json.dumps(one) for name, one in self.answers.items()}
            text = "".join(f"[[ ## {name} ## ]]\n{one}\n\n" for name, one in texts.items())
        return LMReply(text, Usage(input_total=10), cost=0.5, model="m", finish_reason=self.finish_reason)

    async def acall(self, messages, **params):
        return self(messages, **params)


# --- programs -------------------------------------------------------------------------------------------------------


class Sync(dspex.Module):
    def __init__(self, ask=None):
        super().__init__()
        self.ask = ask or dspex.Predict(Typed)

    def forward(self, ticket):
        return self.ask(ticket=ticket)


class Async(dspex.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspex.ChainOfThought(Typed)

    async def aforward(self, ticket):
        first, _ = await asyncio.gather(self.ask.acall(ticket=ticket), self.ask.acall(ticket=ticket))
        return first


class Renamed(Async):
    """Says itself what a call is."""

    def __call__(self, ticket):
        return {"word": ticket, "how": "called"}


class OwnForward(dspex.Predict):
    """Changes what its base asks, in the sync way only."""

    def forward(self, **kwargs):
        return dspex.Prediction(super().forward(**kwargs), how="forward")


class InThread(Sync):
    def forward(self, ticket):
        found = []
        thread = threading.Thread(target=lambda: found.append(self.ask(ticket=ticket)))
        thread.start()
        thread.join()
        return found[0]


class InPool(Sync):
    def forward(self, ticket):
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda text: self.ask(ticket=text), [ticket, ticket]))[1]


class OwnLoop(Sync):
    def forward(self, ticket):
        return asyncio.run(self.ask.acall(ticket=ticket))


class Nested(dspex.Module):
    def __init__(self):
        super().__init__()
        self.parts = {"inner": Sync(), "outer": Async()}

    def forward(self, ticket):
        return self.parts["outer"](ticket=self.parts["inner"](ticket=ticket).person.name)


class Raising(dspex.Module):
    def forward(self, ticket):
        raise KeyError(ticket)


class Exhausted(dspex.Module):
    def forward(self, ticket):
        return next(iter(()))


def function(ticket):
    return dspex.Predict(Typed)(ticket=ticket)


async def async_function(ticket):
    return await dspex.Predict(Typed).acall(ticket=ticket)


def text(ticket):
    return ticket.upper()


class Callable:
    def __call__(self, ticket, prefix=""):
        return dspex.Prediction(word=prefix + ticket, person=Person(name="x"), place=Place("Ulm", 1))


def closure(word, person):
    return lambda ticket: dspex.Prediction(word=word + ticket, person=person)


PROGRAMS = {
    "predict": lambda: dspex.Predict(Typed),
    "chain of thought": lambda: dspex.ChainOfThought(Typed),
    "predictor with an LM": lambda: with_lm(dspex.Predict(Typed)),
    "sync module": Sync,
    "async module": Async,
    "own __call__": Renamed,
    "own forward": lambda: OwnForward(Typed),
    "thread": InThread,
    "thread pool": InPool,
    "event loop": OwnLoop,
    "nested": Nested,
    "raises": Raising,
    "function": lambda: function,
    "async function": lambda: async_function,
    "text": lambda: text,
    "callable object": Callable,
    "partial": lambda: functools.partial(Callable(), prefix="p"),
    "closure": lambda: closure("w", Person(name="c")),
    "method": lambda: Callable().__call__,
}


def with_lm(program):
    program.set_lm(dspex.LM("openai/own"))
    return program


# --- metrics --------------------------------------------------------------------------------------------------------


def sync_metric(example, prediction, trace=None):
    return prediction.person == Person(name="Ada") and isinstance(prediction.place, Place) and trace is None


async def async_metric(example, prediction, trace=None):
    await asyncio.sleep(0)
    return prediction.team is Team.BUGS


class Judge:
    """Metrics of many kinds."""

    def __init__(self, limit=0.25):
        self.limit = limit
        self.ask = dspex.Predict("question -> word")

    def method(self, example, prediction, trace=None):
        return self.limit

    def asks(self, example, prediction, trace=None):
        return self.ask(question=prediction.person.name).word == "yes"

    async def asks_async(self, example, prediction, trace=None):
        return (await self.ask.acall(question=prediction.person.name)).word == "yes"

    def __call__(self, example, prediction, trace=None):
        return dspex.Prediction(score=self.limit, feedback="so so")


class AsyncJudge(Judge):
    async def __call__(self, example, prediction, trace=None):
        return self.limit


def looping(example, prediction, trace=None):
    return asyncio.run(async_metric(example, prediction))


def weighted(weight, example, prediction, trace=None):
    return weight * (prediction.price == Decimal("12.5"))


async def async_weighted(weight, example, prediction):
    return weight


def broken(example, prediction, trace=None):
    raise ValueError("no such label")


LABELS = {
    "person": {"name": "ada"},
    "place": '{"city": "Ulm", "zip": "89073"}',
    "team": "bugs",
    "price": "12.50",
    "day": "2024-05-01",
    "at": "2024-05-01T10:00",
    "tags": ["b", "a"],
    "pair": [1, "X"],
    "urgent": True,
    "note": None,
}

METRICS = {
    "built-in": lambda: dspex.metrics.exact_match(*LABELS),
    "f1": lambda: dspex.metrics.f1("team", "person"),
    "numeric": lambda: dspex.metrics.numeric("price"),
    "sync": lambda: sync_metric,
    "async": lambda: async_metric,
    "method": lambda: Judge(0.75).method,
    "judge": lambda: Judge().asks,
    "async judge": lambda: Judge().asks_async,
    "callable object": Judge,
    "async callable object": AsyncJudge,
    "partial": lambda: functools.partial(weighted, 0.5),
    "async partial": lambda: functools.partial(async_weighted, 0.5),
    "lambda": lambda: lambda example, prediction: len(prediction.tags),
    "coroutine of a lambda": lambda: lambda *given: async_metric(*given),
    "event loop": lambda: looping,
    "raises": lambda: broken,
}
