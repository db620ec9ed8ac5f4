"""Metrics: how good a prediction is, compared with an example's labels.

A metric is called with (example, prediction, trace=None) and returns a bool or a number; yours may be a
function, sync or async. It may also return several scores by name, as `{"score": 0.5, "polite": 1.0}`: `score` counts,
else the first; or a `ScoreWithFeedback`. These here compare fields by name::

    exact_match("team")              # every field the same, after normalising
    contains("answer")               # the label's words stand in the prediction, one after the other
    f1("answer")                     # overlap of words, 0 to 1
    numeric("total", tolerance=0.5)  # as numbers
    judge("It is polite.")           # a language model says
    SemanticF1()                     # a language model says what the response covers, as DSPy's

Text is normalised as in DSPy: NFD, lower case, no ASCII punctuation, no English articles, single spaces. So
`3.0` equals `30` and `-5` equals `5`; for numbers in text use `numeric`. Where the prediction or the label
is a number already, `exact_match` compares as numbers. A list as label means any of its members.

A label is read as the type that the prediction has (`adapters.labels`): `"12.5"` is the label of a Decimal, a dict
that of a model, a list that of a set. One that cannot be read so counts as wrong, and a warning says it once.
"""

from __future__ import annotations

import enum
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_actors.adapters.labels import is_number, same, unboxed
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.codec import to_plain
from dspex_actors.foundation.normal import normalize_text as normalize_text
from dspex_actors.foundation.scores import check_score as check_score
from dspex_actors.foundation.scores import judged as judged

if TYPE_CHECKING:
    from dspex_actors.semantic import CompleteAndGrounded as CompleteAndGrounded
    from dspex_actors.semantic import SemanticF1 as SemanticF1

_MANY = (list, tuple, set, frozenset)
_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def f1_score(prediction: str, label: str) -> float:
    """Return the F1 of two texts' normalised words; 0.0 when they share none, also when both are empty."""
    ours, theirs = normalize_text(prediction).split(), normalize_text(label).split()
    same = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * same / (len(ours) + len(theirs)) if same else 0.0


def as_number(value: Any) -> float | None:
    """Return a value as a number: a number itself, or text with exactly one number in it (`1,234`, `$5`, `7 kg`)."""
    value = unboxed(value.value if isinstance(value, enum.Enum) else value)
    if is_number(value):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
        except ValueError:
            return None  # a Decimal that signals that it is no number
    found = _NUMBER.findall(value) if isinstance(value, str) else []
    return float(found[0].replace(",", "")) if len(found) == 1 else None


@dataclass(frozen=True)
class FieldMetric:
    """Base of the metrics here: compares `fields` of an example with those of a prediction."""

    kind: ClassVar[str] = ""
    fields: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the names."""
        if not self.fields or not all(isinstance(name, str) and name for name in self.fields):
            raise ConfigError(f"{self.kind} needs the names of the fields to compare, got {self.fields!r}")

    @property
    def __name__(self) -> str:
        """The metric as the command line writes it: `exact_match:team`."""
        return f"{self.kind}:{','.join(self.fields)}"

    def __repr__(self) -> str:
        """Show the name."""
        return self.__name__

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> bool | float:
        """Score a prediction.

        Args:
            example: holds the labels.
            prediction: holds the outputs.
            trace: not used.

        Returns:
            The score.

        Raises:
            ConfigError: a field is missing on either side.
        """
        return self.combine(
            [
                self._best(_field(prediction, name, "prediction"), _field(example, name, "example"))
                for name in self.fields
            ]
        )

    def _best(self, got: Any, label: Any) -> bool | float:
        label = unboxed(label)
        if not isinstance(label, _MANY) or isinstance(unboxed(got), _MANY):
            return self.compare(got, label)
        return max((self.compare(got, one) for one in label), default=False)

    def compare(self, got: Any, label: Any) -> bool | float:
        """Score one value against one label."""
        return bool(got == label)

    def combine(self, scores: list[bool | float]) -> bool | float:
        """Make one score of the fields': all of them have to be right."""
        return all(scores)


class ExactMatch(FieldMetric):
    """See `exact_match`."""

    kind = "exact_match"

    def compare(self, got: Any, label: Any) -> bool:
        """Compare numbers as numbers, objects as their plain values, lists member by member, else normalised text."""
        return same(got, label, normalize_text)


class Contains(FieldMetric):
    """See `contains`."""

    kind = "contains"

    def compare(self, got: Any, label: Any) -> bool:
        """Look for the label's words in a row."""
        if got is None or label is None:
            return got is label
        words = normalize_text(_text(label))
        return bool(words) and f" {words} " in f" {normalize_text(_text(got))} "


class F1(FieldMetric):
    """See `f1`."""

    kind = "f1"

    def compare(self, got: Any, label: Any) -> float:
        """Measure the overlap of words."""
        if got is None or label is None:
            return float(got is label)
        return f1_score(_text(got), _text(label))

    def combine(self, scores: list[bool | float]) -> float:
        """Take the mean over the fields."""
        return sum(scores) / len(scores)


@dataclass(frozen=True, repr=False)
class Numeric(FieldMetric):
    """See `numeric`."""

    kind: ClassVar[str] = "numeric"
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        """Check names and tolerance."""
        super().__post_init__()
        if not isinstance(self.tolerance, int | float) or not self.tolerance >= 0:
            raise ConfigError(f"numeric's tolerance must be a number, 0 or more; got {self.tolerance!r}")

    @property
    def __name__(self) -> str:
        """The metric as the command line writes it."""
        return f"numeric:{','.join(self.fields)}" + (f":{self.tolerance:g}" if self.tolerance else "")

    def compare(self, got: Any, label: Any) -> bool:
        """Compare as numbers; what is no number equals nothing."""
        ours, theirs = as_number(got), as_number(label)
        return ours is not None and theirs is not None and abs(ours - theirs) <= self.tolerance


def exact_match(*fields: str) -> FieldMetric:
    """Make a metric that is true when every field equals its label after normalising.

    Args:
        *fields: names that example and prediction both have.

    Returns:
        A metric.
    """
    return ExactMatch(fields)


def contains(*fields: str) -> FieldMetric:
    """Make a metric that is true when every field has its label's words in it, in a row, after
    normalising."""
    return Contains(fields)


def f1(*fields: str) -> FieldMetric:
    """Make a metric from 0 to 1: the F1 of words after normalising, the mean over the fields."""
    return F1(fields)


def numeric(*fields: str, tolerance: float = 0.0) -> FieldMetric:
    """Make a metric that is true when every field is within `tolerance` of its label, both read as numbers.

    Args:
        *fields: names that example and prediction both have; text with exactly one number in it counts as
        that number. tolerance: the largest difference that still counts as equal.

    Returns:
        A metric.
    """
    return Numeric(fields, tolerance)


_KINDS: dict[str, Callable[..., FieldMetric]] = {
    "exact_match": exact_match,
    "contains": contains,
    "f1": f1,
    "numeric": numeric,
}


def parse(text: str) -> FieldMetric:
    """Make a metric from the command line's form.

    Args:
        text: `exact_match:FIELD`, several fields with commas; `numeric:FIELD:TOLERANCE`.

    Returns:
        A metric.

    Raises:
        ConfigError: what is wrong, and what there is.
    """
    kind, _, rest = text.partition(":")
    make = _KINDS.get(kind)
    if make is None:
        raise ConfigError(f"no metric {kind!r}; there are {', '.join(_KINDS)}, or pkg.mod:function")
    names, _, tolerance = rest.partition(":")
    fields = tuple(name.strip() for name in names.split(",") if name.strip())
    if not fields or (tolerance and make is not numeric):
        raise ConfigError(f"metric {text!r}: write {kind}:FIELD" + ("[:TOLERANCE]" if make is numeric else ""))
    if not tolerance:
        return make(*fields)
    try:
        return numeric(*fields, tolerance=float(tolerance))
    except ValueError:
        raise ConfigError(f"metric {text!r}: the tolerance {tolerance!r} is no number") from None


def _text(value: Any) -> str:
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return value
    plain = to_plain(value)
    return plain if isinstance(plain, str) else str(plain)


def _field(holder: Any, name: str, what: str) -> Any:
    if not hasattr(holder, "keys"):
        got = f"{holder!r:.40} ({type(holder).__name__})"
        raise ConfigError(f"the {what} has no field {name!r}: got {got}, expected a Prediction or a dict with it")
    if name not in holder:
        known = ", ".join(map(str, holder.keys())) or "no fields"
        raise ConfigError(f"the {what} has no field {name!r}; it has {known}")
    return holder[name]


def judge(what: Any, *, scale: tuple[float, float] | None = None, lm: Any = None) -> Any:
    """Return a metric that asks an LM how good a prediction is.

    Its calls are the run's: they are in its books with the tag `role=judge`, and paid out of its budget.

    Args:
        what: what makes a prediction good, in words ("The answer is polite and names a source."). Or a signature: its
            inputs are filled by name from the prediction, the example's inputs and its labels, in this order; its
            output `score`, else its last one, is the score.
        scale: the lowest and the highest score that the LM may give, as (1, 5); the metric's value is 0.0 to 1.0.
            None: right or wrong; of a signature what it says.
        lm: who judges; None: the LM of the run.

    Raises:
        ConfigError: something is not usable.
    """
    from dspex_actors.judging import Judge  # programs are loaded by those who have one judge

    return Judge(what, scale=scale, lm=lm)


def answer_exact_match(example: Any, pred: Any, trace: Any = None, frac: float = 1.0) -> bool:
    """Say whether the field `answer` of the prediction is that of the example, as DSPy's metric of this name does.

    Args:
        example: its `answer` is a text, or a list of texts any of which is right.
        pred: the prediction.
        trace: not used.
        frac: below 1.0 the F1 of the words has to reach that.

    Raises:
        ConfigError: one of them has no `answer`.
    """
    labels = _texts(_field(example, "answer", "example"))
    got = _text(_field(pred, "answer", "prediction"))
    if frac >= 1.0:
        return any(normalize_text(got) == normalize_text(label) for label in labels)
    return max((f1_score(got, label) for label in labels), default=0.0) >= frac


def answer_passage_match(example: Any, pred: Any, trace: Any = None) -> bool:
    """Say whether a passage of the prediction's `context` has the example's `answer` in it, as DSPy's metric does.

    Args:
        example: its `answer` is a text, or a list of texts any of which will do.
        pred: its `context` is a list of passages.
        trace: not used.

    Raises:
        ConfigError: one of them lacks its field.
    """
    words = [f" {normalize_text(label)} " for label in _texts(_field(example, "answer", "example"))]
    passages = [f" {normalize_text(passage)} " for passage in _texts(_field(pred, "context", "prediction"))]
    return any(one in passage for one in words for passage in passages)


def _texts(value: Any) -> list[str]:
    return [_text(one) for one in value] if isinstance(value, _MANY) else [_text(value)]


#: Metrics that are programs: programs are loaded by those who use one.
_PROGRAMS = ("SemanticF1", "CompleteAndGrounded")

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a metric that is a program at its first use."""
        if name not in _PROGRAMS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from dspex_actors import semantic

        return getattr(semantic, name)
