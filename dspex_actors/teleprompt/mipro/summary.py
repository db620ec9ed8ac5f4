"""What is to be said of a dataset: an LM looks at its examples, part by part, and sums up what it has seen."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Any

from dspex_actors.example import Example
from dspex_actors.programs.predict import Predict
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature
from dspex_actors.teleprompt.steps import Ask

#: Parts that are looked at, at most; after so many to which there was nothing to add, no more.
PARTS, NOTHING_NEW = 10, 5
#: What the LM says where there is nothing to add.
COMPLETE = "COMPLETE"

_LEADING = re.compile(r"^[*\s]*(?:[\w'-]+\s+){0,4}[\w'-]+:\s*")
_INPUT_NAMES = re.compile(r"input_keys=\{([^}]+)\}")


class DescribeDataset(Signature):
    """You are shown some examples of a dataset. Write down what holds for most or all of them: their subjects, content,
    form, length and whatever else is worth knowing. Guess which task the dataset is for. Feel free to be creative.
    """

    examples: str = InputField(desc="some of the examples")
    observations: str = OutputField(desc="what holds for most or all of them")


class DescribeMore(Signature):
    """You are shown some examples of a dataset, and what was observed of others. Write down what else holds for most or
    all of them: their subjects, content, form, length; guess which task the dataset is for. Where nothing is to be
    added, answer COMPLETE.
    """

    examples: str = InputField(desc="some of the examples")
    prior_observations: str = InputField(desc="what was observed before")
    observations: str = OutputField(desc="what else holds for most or all of them, or COMPLETE")


class SumUp(Signature):
    """You are given observations of a dataset. Sum up the most important of them in two or three sentences."""

    observations: str = InputField(desc="observations of the dataset")
    summary: str = OutputField(desc="two or three sentences with the most important ones")


def summarise(examples: Sequence[Example], part: int, lm: Any) -> Generator[Any, Any, str | None]:
    """Yield the questions, one after the other, and return the summary; None: no answer could be read.

    The way is DSPy's: each part is looked at in the light of what was seen in those before.

    Args:
        examples: of the trainset.
        part: examples per question.
        lm: which LM is asked.
    """
    seen = yield from _answer(DescribeDataset, lm, examples=_shown(examples[:part]))
    if seen is None:
        return None
    observations, idle = str(seen.observations), 0
    for start in range(part, min(len(examples), PARTS * part), part):
        shown = _shown(examples[start : start + part])
        seen = yield from _answer(DescribeMore, lm, prior_observations=observations, examples=shown)
        if seen is None:
            break  # what there is will do
        said = str(seen.observations)
        if said[: len(COMPLETE)].upper() == COMPLETE:
            idle += 1
            if idle >= NOTHING_NEW:
                break
        else:
            observations += said
    summed = yield from _answer(SumUp, lm, observations=observations)
    return None if summed is None else bare(str(summed.summary))


def bare(text: str) -> str:
    """Return a text without words with a colon before it ("Proposed instruction: ...") and without quotes around it."""
    return _LEADING.sub("", text).strip('"')


def _answer(signature: type[Signature], lm: Any, **inputs: Any) -> Generator[Any, Any, Any]:
    (answer,) = yield Ask(Predict(signature, temperature=1.0), [inputs], lm)
    return answer


def _shown(examples: Sequence[Example]) -> str:
    """Return examples as text, the same in every process: the names of inputs stand in a set."""
    return _INPUT_NAMES.sub(
        lambda found: f"input_keys={{{', '.join(sorted(one.strip() for one in found[1].split(',')))}}}",
        repr(list(examples)),
    )
