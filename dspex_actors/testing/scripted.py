"""`scripted_lm`: an LM that answers what a test says, in order, in whatever process it is asked."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from dspex_actors.errors import ConfigError
from dspex_actors.lm.base import BaseLM


class ScriptedCall(NamedTuple):
    """A call that a scripted LM has had.

    Args:
        messages: what was asked.
        params: parameters of the call.
        pid: the process in which it was asked.
    """

    messages: list[dict[str, Any]]
    params: dict[str, Any]
    pid: int


class _Script(NamedTuple):
    """What a scripted LM says, and the file with a line per call."""

    answers: list[Any]
    tape: str


class ScriptedLM(BaseLM):
    """Answers one call after the other from a list; made by `scripted_lm`.

    Args:
        answers: what it says.
        model: what it is called.
    """

    def __init__(self, answers: Iterable[Any], model: str = "scripted") -> None:
        """Begin with the first answer."""
        super().__init__(model)
        if isinstance(answers, str | bytes) or not isinstance(answers, Iterable):
            raise ConfigError(f"the answers of a scripted LM are invalid: got {answers!r:.80}, expected a list")
        script = list(answers)
        for answer in script:
            _check(answer)
        handle, tape = tempfile.mkstemp(prefix="dspex-scripted-", suffix=".jsonl")
        os.close(handle)
        # Under the name of what LMs note down, which is no part of what they are: a run that was answered by one
        # script goes on with another, as with the same provider.
        self.history = _Script(script, tape)
        # Copies in other processes have the path only: the file goes with the one that was made here.
        weakref.finalize(self, _remove, tape, os.getpid())

    def forward(self, messages: list[dict[str, Any]], **params: Any) -> Any:
        """Give the next answer.

        Raises:
            ConfigError: there is none left.
        """
        answers, tape = self.history
        number = _note(tape, [messages, params, os.getpid()])
        if number >= len(answers):
            raise ConfigError(
                f"the scripted LM has run out of answers: this is call {number + 1}, and it has {len(answers)}"
            )
        answer = answers[number]
        if isinstance(answer, BaseException | type):
            raise answer
        return answer(messages, **params) if _is_function(answer) else answer

    @property
    def calls(self) -> list[ScriptedCall]:
        """The calls so far, of all processes on this host, in the order in which they came."""
        with open(self.history.tape, encoding="utf-8") as file:
            return [ScriptedCall(*json.loads(line)) for line in file]

    def __deepcopy__(self, memo: dict[int, Any]) -> ScriptedLM:
        """Be one for all copies of a program."""
        return self


def scripted_lm(answers: Iterable[Any], model: str = "scripted") -> ScriptedLM:
    """Return an LM that gives these answers, in this order; without HTTP, in the process that asks.

    It goes with a program to the workers of a node, and its copies share one place in the script: with
    `evaluate(..., max_in_flight=1)` the answers are in the order of the examples.

    Args:
        answers: for each call a text, a reply (`LMReply`, or a dict with `text`), an exception that is raised, or a
            function of (messages, **params) that returns or raises one. A call after the last one is a ConfigError.
        model: what it is called. Two of one name are the same LM to a run that is resumed, whatever they say.

    Returns:
        An LM; `.calls` has messages, params and process of each call.

    Raises:
        ConfigError: an answer is none of them.
    """
    return ScriptedLM(answers, model)


def _check(answer: Any) -> None:
    if isinstance(answer, type):
        fits = issubclass(answer, BaseException)
    else:
        has_text = hasattr(answer, "text") or (isinstance(answer, dict) and ("text" in answer or "choices" in answer))
        fits = isinstance(answer, str | BaseException) or callable(answer) or has_text or hasattr(answer, "choices")
    if not fits:
        raise ConfigError(
            f"an answer of a scripted LM is invalid: got {answer!r:.80}, "
            "expected a text, a reply, an exception or a function"
        )


def _is_function(answer: Any) -> bool:
    return callable(answer) and not hasattr(answer, "text")


def _note(tape: str, row: list[Any]) -> int:
    """Write a call down; return how many there were before, in whatever process."""
    line = json.dumps(row, default=repr).encode() + b"\n"
    with open(tape, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        number = sum(1 for _ in file)
        file.write(line)
    return number


def _remove(tape: str, pid: int) -> None:
    if os.getpid() == pid:
        Path(tape).unlink(missing_ok=True)
