"""The embedded LM's mind: answer like the nearest example in the prompt.

It has no weights and knows nothing but the prompt. Its quality is therefore a matter of the examples that it
is shown, which is what makes it useful: an optimiser that finds better demonstrations gets a better score,
and one that does not, does not.
"""

from __future__ import annotations

import ast
from collections import OrderedDict
from typing import Any

import orjson

from dspex_actors.embedded import layout
from dspex_actors.embedded.guess import Field, draw, fraction, guess
from dspex_actors.embedded.similarity import Neighbours

#: A vote counts with this power of the likeness: far examples are heard, near ones decide.
_SHARPNESS = 2.0
#: The votes for a value are divided by this power of their number.
_FAIRNESS = 0.75
#: A value longer than this is prose: it is copied from the nearest example, not voted on.
_LONGEST_LABEL = 60
_HONEST = (
    "I am a stand-in for a language model and have no knowledge of my own: "
    "I answer like the closest example in the prompt, and this prompt shows none."
)


class _Shown:
    """The examples of one prompt, weighed once and asked often."""

    __slots__ = ("inputs", "keys", "neighbours", "outputs")

    def __init__(self, examples: tuple[tuple[str, str], ...]) -> None:
        self.inputs = [layout.input_text(user) for user, _ in examples]
        self.outputs = [layout.outputs(assistant) or {"": assistant.strip()} for _, assistant in examples]
        #: Breaks ties by content, so that the order of the examples cannot.
        self.keys = [draw(user, assistant) for user, assistant in examples]
        self.neighbours = Neighbours(self.inputs)

    def ranked(self, query: str) -> list[tuple[float, int]]:
        """Return (likeness, index) of every example, nearest first."""
        scores = self.neighbours.scores(query)
        order = sorted(range(len(scores)), key=lambda at: (-scores[at], self.keys[at]))
        return [(scores[at], at) for at in order]


class Learner:
    """Answers chats in context. One instance serves any number of different prompts.

    Args:
        seed: part of every guess; two learners of one seed give the same answers.
        keep: how many sets of examples stay weighed, the least recently used leaves first.
    """

    def __init__(self, seed: int = 0, keep: int = 64) -> None:
        """Start with nothing seen."""
        self._seed = seed
        self._keep = keep
        self._shown: OrderedDict[tuple[tuple[str, str], ...], _Shown] = OrderedDict()

    def answer(
        self,
        messages: list[tuple[str, str]],
        *,
        temperature: float = 0.0,
        seed: int | None = None,
        json: bool = False,
        schema: Any = None,
    ) -> str:
        """Answer a chat.

        1. Find the output fields that it asks for, the examples that it shows, the text that it asks about.
        2. Rank the examples by how alike their inputs are to that text.
        3. For each field let the examples vote, the nearer the louder; copy the nearest where the values are prose.
        4. Without examples guess among the legal values.

        Args:
            messages: (role, text) pairs, oldest first.
            temperature: 0 takes the best vote; above, the vote is drawn from, more evenly the higher it is.
            seed: changes the guesses and the draws, as the learner's own does.
            json: whether the request itself asks for a JSON object.
            schema: JSON schema of that object.

        Returns:
            The text, in the layout that the chat asks for. Equal arguments give an equal text.
        """
        task = layout.read(messages, json=json, schema=schema)
        salt = (self._seed, seed, temperature if temperature > 0 else 0)
        shown = self._weighed(task.examples) if task.examples else None
        ranked = shown.ranked(task.query) if shown else []
        if not task.fields:
            plain = Field("")
            text = str(_by_vote(plain, shown, ranked, temperature, task.query, salt)) if shown else _HONEST
            return orjson.dumps({"answer": text}).decode() if task.style == "json" else text
        values: dict[str, Any] = {}
        for field in task.fields:
            value = _by_vote(field, shown, ranked, temperature, task.query, salt) if shown else None
            values[field.name] = guess(field, task.query, *salt) if value is None else value
        return _as_json(task.fields, values) if task.style == "json" else _as_sections(values)

    def _weighed(self, examples: tuple[tuple[str, str], ...]) -> _Shown:
        shown = self._shown.get(examples)
        if shown is None:
            shown = self._shown[examples] = _Shown(examples)
            if len(self._shown) > self._keep:
                self._shown.popitem(last=False)
        else:
            self._shown.move_to_end(examples)
        return shown


def _by_vote(
    field: Field,
    shown: _Shown,
    ranked: list[tuple[float, int]],
    temperature: float,
    query: str,
    salt: tuple[object, ...],
) -> str | None:
    """Return the value that the examples, the nearer the louder, give to `field`; None when no example has one."""
    if field.explains:
        nearest = " ".join(shown.inputs[ranked[0][1]].split()[:16])
        return f"The closest example I was shown is: {nearest}"
    near = [(score, value) for score, at in ranked if (value := shown.outputs[at].get(field.name)) is not None]
    if field.options:
        # An example outside the legal values must not win while a legal one is there.
        near = [one for one in near if one[1] in field.options] or near
    if not near:
        return None
    if near[0][0] > 0:
        near = [one for one in near if one[0] > 0]
        best = near[0][0]
        weights = [(score / best) ** _SHARPNESS for score, _ in near]
    else:
        # Nothing in common with any example: the most frequent answer is the best that is left.
        weights = [1.0] * len(near)
    votes: dict[str, float] = {}
    given: dict[str, int] = {}
    for weight, (_, value) in zip(weights, near, strict=True):
        votes[value] = votes.get(value, 0.0) + weight
        given[value] = given.get(value, 0) + 1
    # Between sum and mean: a value does not win by being shown often, nor lose by having far examples as well.
    votes = {value: vote / given[value] ** _FAIRNESS for value, vote in votes.items()}
    if temperature > 0:
        return _drawn(votes, temperature, fraction(field.name, query, *salt))
    if len(near[0][1]) > _LONGEST_LABEL or "\n" in near[0][1]:
        return near[0][1]
    return max(votes, key=votes.__getitem__)


def _drawn(votes: dict[str, float], temperature: float, at: float) -> str:
    """Return the value that the fraction `at` of the votes falls on, votes flattened by the temperature."""
    top = max(votes.values())
    flattened = {value: (vote / top) ** (1.0 / temperature) for value, vote in votes.items()}
    rest = at * sum(flattened.values())
    for value, vote in flattened.items():
        rest -= vote
        if rest < 0:
            return value
    return value


def _as_sections(values: dict[str, Any]) -> str:
    parts = []
    for name, value in values.items():
        text = value if isinstance(value, str) else str(value)
        if isinstance(value, dict | list):
            text = orjson.dumps(value).decode()
        parts.append(f"[[ ## {name} ## ]]\n{text}")
    parts.append("[[ ## completed ## ]]")
    return "\n\n".join(parts)


def _as_json(fields: tuple[Field, ...], values: dict[str, Any]) -> str:
    typed = {f.name: _typed(f, values[f.name]) for f in fields}
    return orjson.dumps(typed, option=orjson.OPT_INDENT_2).decode()


def _typed(field: Field, value: Any) -> Any:
    """Return a value that was copied from an example's text as the JSON type that the field has."""
    if not isinstance(value, str) or field.kind in ("text", "options"):
        return value
    for parse in (orjson.loads, ast.literal_eval):
        try:
            return parse(value)
        except (ValueError, SyntaxError):
            continue
    return value
