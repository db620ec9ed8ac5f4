"""`BaseLM`: a language model of the user's own, which is asked where the program runs."""

from __future__ import annotations

import copy
import functools
import inspect
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Self

from dspex_actors.errors import ConfigError, LMError
from dspex_actors.foundation.bridge import in_background_loop, in_thread
from dspex_actors.lm import settings as check
from dspex_actors.lm.attempts import Attempt, Handed, current_ledger
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.usage import Usage, estimate_usage, prompt_tokens
from dspex_actors.settings import Calls, book_call, book_failure, record_calls

#: What stands for the provider in the books of an LM of one's own.
OWN = "own"


class BaseLM:
    """A language model of one's own: subclass it, and write `forward` or `aforward`.

        class Parrot(dspex.BaseLM):
            def forward(self, messages, **params):
                return messages[-1]["content"].upper()

        dspex.configure(lm=Parrot())

    It is asked where the program runs: in `evaluate` its code travels to the workers by value. Its calls are counted
    as those of an `LM`; one that asks another LM of ours has that one's calls counted, once. Retries, budgets and
    deadlines are its own affair.

    Args:
        model: what it is called in replies; None: the name of its class.
        kwargs: parameters that it keeps for itself, as DSPy's does.
    """

    #: Its calls, answered or not, go into the record that is open around them; nobody else has to book them.
    books_calls: ClassVar[bool] = True

    def __init__(self, model: str | None = None, **kwargs: Any) -> None:
        """Keep name and parameters."""
        self.model = model or type(self).__name__
        self.kwargs = kwargs

    def forward(self, messages: list[dict[str, Any]], **params: Any) -> Any:
        """Answer one call; blocking, in a thread.

        Args:
            messages: role/content messages.
            params: parameters of the call.

        Returns:
            A text, an `LMReply`, or an answer of the shape that OpenAI's SDK gives. Usage that is not told is
            estimated, and its price unknown.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither forward nor aforward")

    async def aforward(self, messages: list[dict[str, Any]], **params: Any) -> Any:
        """Answer one call on an event loop; as `forward`, which is asked in a thread where this is not written."""
        return await in_thread(lambda: self._forward(messages, params))

    def __call__(
        self, prompt: str | list[dict[str, Any]] | None = None, *, messages: Any = None, **params: Any
    ) -> LMReply:
        """Ask it and wait for its answer.

        Args:
            prompt: a text, or a list of role/content messages.
            messages: the list, as DSPy names it.
            params: parameters of this call.

        Raises:
            ConfigError: the call or what it answers is not usable.
        """
        asked = check.asked(prompt, messages)
        with _Entry(self._name, asked) as entry:
            if type(self).forward is BaseLM.forward and type(self).aforward is not BaseLM.aforward:
                answer = in_background_loop(lambda: self.aforward(**_named(self.aforward, asked), **params), self._name)
            else:
                answer = self._forward(asked, params)
            return entry.answered(answer)

    async def acall(
        self, prompt: str | list[dict[str, Any]] | None = None, *, messages: Any = None, **params: Any
    ) -> LMReply:
        """Ask it; as `lm(...)`, from inside an event loop."""
        asked = check.asked(prompt, messages)
        with _Entry(self._name, asked) as entry:
            return entry.answered(await self.aforward(**_named(self.aforward, asked), **params))

    def copy(self, **changes: Any) -> Any:
        """Return a copy with other attributes, or other parameters in `kwargs` (DSPy's)."""
        twin = copy.copy(self)
        twin.kwargs = dict(getattr(self, "kwargs", {}))
        for name, value in changes.items():
            if hasattr(self, name):
                setattr(twin, name, value)
            else:
                twin.kwargs[name] = value
        return twin

    @property
    def _name(self) -> str:
        return str(getattr(self, "model", None) or type(self).__name__)

    def _forward(self, messages: list[dict[str, Any]], params: dict[str, Any]) -> Any:
        return self.forward(**_named(self.forward, messages), **params)


def _named(method: Any, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the messages under the name that the method has for them: DSPy's takes `prompt` before `messages`."""
    return {_name_for_messages(method.__func__ if inspect.ismethod(method) else method): messages}


@functools.lru_cache(maxsize=256)
def _name_for_messages(function: Any) -> str:
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    return "messages" if "messages" in names or not names else names[0]


@contextmanager
def booking() -> Iterator[None]:
    """Book the requests of a call that fails: whoever catches the error, they were made."""
    try:
        yield
    except LMError as error:
        book_failure(error.asked)
        raise


class _Entry:
    """One call in the books: in the record that is open around it, and, within a run, among its requests.

    An LM that asks others of ours has nothing to enter: they do, and what was paid once must not stand there twice.

    Args:
        model: what the LM is called.
        messages: what is asked.
    """

    def __init__(self, model: str, messages: list[dict[str, Any]]) -> None:
        self._model, self._messages = model, messages
        self._ledger = current_ledger()
        self._at, self._started = time.time(), time.perf_counter()
        self._number = 0
        self._handed: Handed | None = None
        self._asked_inside = Calls()
        self._open = ExitStack()
        self._reply: LMReply | None = None

    def answered(self, answer: Any) -> LMReply:
        """Return what the LM has answered as a reply."""
        self._reply = reply_of(answer, self._messages, self._model, time.perf_counter() - self._started)
        return self._reply

    def __enter__(self) -> Self:
        if self._ledger is not None:
            self._ledger.left()  # an example that has its result asks for nothing more
            self._number = self._ledger.begin(self._at, OWN, self._model, prompt_tokens(self._messages))
            self._handed = self._open.enter_context(self._ledger.handing_on(self._number))
        self._asked_inside = self._open.enter_context(record_calls())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._open.close()
        reply = self._reply if error is None else None
        if not self._asked_inside and not self._asked_inside.in_vain:
            if reply is not None:
                book_call(reply)
            else:
                book_failure(getattr(error, "asked", None) or 1)
        if self._ledger is None or (self._handed is not None and self._handed.is_taken):
            return
        told: dict[str, Any] = {}
        if reply is not None:
            told = {"usage": reply.usage.to_dict(), "cost": reply.cost, "finish_reason": reply.finish_reason}
            told["request_id"] = reply.request_id
        elif isinstance(error, Exception):
            told = {"error": type(error).__name__}
        outcome = "answered" if reply is not None else "failed" if told else "cancelled"
        latency = time.perf_counter() - self._started
        self._ledger.book(Attempt(self._number, self._at, OWN, self._model, outcome, latency=latency, **told))


def reply_of(answer: Any, messages: list[dict[str, Any]], model: str, latency: float) -> LMReply:
    """Return what a user's own LM answered as a reply.

    Args:
        answer: a text, a reply, an answer of OpenAI's shape (an object or a dict), or DSPy's list of one text.
        messages: what was asked.
        model: what the LM is called.
        latency: seconds that it took.

    Raises:
        ConfigError: it is none of them.
    """
    if isinstance(answer, LMReply):
        return answer
    if isinstance(answer, list | tuple) and answer:
        answer = answer[0]
    choices = _get(answer, "choices")
    finish_reason = None
    usage = _get(answer, "usage")
    if choices:
        finish_reason = _get(choices[0], "finish_reason")
        text = _get(_get(choices[0], "message"), "content") or ""
    else:
        text = answer if isinstance(answer, str) else _get(answer, "text")
    if not isinstance(text, str):
        raise ConfigError(f"the answer of {model} is invalid: got {check.shown(answer)}, expected a text or a reply")
    return LMReply(
        text=text,
        usage=_usage(usage) or estimate_usage(messages, text),
        cost=cost if isinstance(cost := _get(answer, "cost"), int | float) else None,
        model=str(_get(answer, "model") or model),
        latency=latency,
        finish_reason=finish_reason or _get(answer, "finish_reason"),
        provider=OWN,
    )


def _get(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _usage(told: Any) -> Usage | None:
    if told is None or isinstance(told, Usage):
        return told
    tokens = [_get(told, name) for name in ("prompt_tokens", "completion_tokens")]
    return Usage(input_total=tokens[0], output_total=tokens[1]) if all(type(n) is int for n in tokens) else None
