"""Answers of models that think aloud before they answer: what they try there is not what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspex_actors.errors import AdapterParseError

_BEGIN, _END = "<think>", "</think>"
#: How an answer begins: a marker, bold or not, an object, an element, a fence, a heading.
_ANSWERS = ("[[", "**[[", "`[[", "{", "<", "```", "#")


def spoken(completion: str) -> str:
    """Return an answer without the `<think>` block before it."""
    text = completion.lstrip()
    if not text.startswith(_BEGIN):
        return completion
    _, end, answer = text.partition(_END)
    return answer if end else completion


def read_spoken(completion: str, read: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """Read an answer without the thoughts before it.

    There are chat templates that begin thoughts in the prompt: then they only end in the answer. What follows such an
    end is the answer, if it looks like one and can be read. Where an answer cannot be read otherwise, what follows the
    last thoughts in it is.

    Args:
        completion: the LM's text.
        read: returns the fields of an answer.

    Raises:
        AdapterParseError: it cannot be read.
    """
    before, end, after = completion.rpartition(_END)
    if not end:
        return read(completion)
    last = None
    if _BEGIN not in before and after.lstrip().startswith(_ANSWERS):
        try:
            return read(after)
        except AdapterParseError as error:
            last = error
    try:
        return read(spoken(completion))
    except AdapterParseError:
        if last is not None:
            raise
        try:
            return read(after)
        except AdapterParseError:
            pass
        raise
