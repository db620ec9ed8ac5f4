from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from pydantic import BaseModel

from dspex_actors.cache.key import answer_key, pack_inputs


class Person(BaseModel):
    name: str
    age: int = 3


@dataclass
class Told:
    history: str


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


def key_of(inputs, program="p"):
    return answer_key(program, inputs, pack_inputs(inputs))


def test_the_order_of_inputs_does_not_count_and_everything_else_does():
    first = {"a": 1, "b": 2}
    assert key_of(first) == key_of({"b": 2, "a": 1})
    others = [
        {"a": 2, "b": 1},
        {"a": "1", "b": 2},
        {"a": True, "b": 2},
        {"a": 1.0, "b": 2},
        {"a": 1},
        {"a": [1], "b": 2},
        {"a": (1,), "b": 2},
        {"a": Decimal(1), "b": 2},
    ]
    keys = {key_of(first), key_of(first, "q"), *map(key_of, others)}
    assert len(keys) == len(others) + 2


def test_objects_are_told_by_what_they_hold():
    assert key_of({"who": Person(name="x")}) == key_of({"who": Person(name="x")})
    assert key_of({"who": Person(name="x")}) != key_of({"who": Person(name="y")})
    assert key_of({"who": Told("x")}) != key_of({"who": Told("y")})
    assert key_of({"c": Colour.RED}) != key_of({"c": Colour.BLUE})
    assert key_of({"c": Colour.RED}) != key_of({"c": "red"})
