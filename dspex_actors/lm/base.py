"""`BaseLM`: a language model of the user's own, which is asked where the program runs."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, ClassVar, Self, TextIO, cast

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.bridge import in_background_loop, in_thread
from dspex_actors.foundation.callbacks import aheard, heard
from dspex_actors.foundation.operation import Operation, part
from dspex_actors.lm import settings as check
from dspex_actors.lm.attempts import (
    Attempt,
    Handed,
    book_outside,
    charge_own,
    check_own,
    count_own,
    current_ledger,
    tags_text,
)
from dspex_actors.lm.capabilities import NOTHING, Capabilities, capabilities_of
from dspex_actors.lm.content.parts import Part, Text, Thinking, ToolCall
from dspex_actors.lm.history import HISTORY, Entries, show
from dspex_actors.lm.own_stream import OwnSource, WholeSource, whole
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.stream import LMStream, Source
from dspex_actors.lm.usage import Usage, prompt_tokens, usage_of
from dspex_actors.settings import Calls, book_call, book_failure, record_calls, settings

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
    #: Who hears of its calls (`BaseCallback`s), beside those of the settings.
    callbacks: Sequence[Any] = ()
    #: Its calls in this process, oldest first, as DSPy's entries.
    history: Any = Entries(HISTORY.of_lm)

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
            A text, an `LMReply`, or an answer of the shape that OpenAI's SDK gives (tool calls and
            `reasoning_content` too). Usage that is not told is
            estimated, and its price unknown.
        """
        stream = getattr(self, "forward_stream", None)
        if stream is None:
            raise NotImplementedError(f"{type(self).__name__} has neither forward nor aforward, nor forward_stream")
        return whole(stream(**_named(stream, messages), **params), self._name)

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
            params: parameters of this call. An `LM` takes its settings too, and `tags` (name → text), what the call is
                for, and `user`, for whom, for `dspex cost`; a provider with a parameter `user` is told that one, too.

        Raises:
            ConfigError: the call, or what one of the user's own answers, is not usable; an `LM` is not connected.
            LMError: the model did not answer.
        """
        if callbacks := settings.heard_by(self.callbacks):
            inputs = {"prompt": prompt, "messages": messages, "kwargs": params}
            reply = cast("LMReply", heard(callbacks, "lm", self, inputs, lambda: self._asked(prompt, messages, params)))
        else:
            reply = self._asked(prompt, messages, params)
        if HISTORY.kept:
            HISTORY.asked(self, prompt, messages, params, reply)
        return reply

    async def acall(
        self, prompt: str | list[dict[str, Any]] | None = None, *, messages: Any = None, **params: Any
    ) -> LMReply:
        """Ask it; as `lm(...)`, from inside an event loop."""
        if callbacks := settings.heard_by(self.callbacks):
            inputs = {"prompt": prompt, "messages": messages, "kwargs": params}
            heard_of = await aheard(callbacks, "lm", self, inputs, lambda: self._aasked(prompt, messages, params))
            reply = cast("LMReply", heard_of)
        else:
            reply = await self._aasked(prompt, messages, params)
        if HISTORY.kept:
            HISTORY.asked(self, prompt, messages, params, reply)
        return reply

    def inspect_history(self, n: int = 1, file: TextIO | None = None) -> None:
        """Print its last calls in this process, as `dspex.inspect_history` does."""
        show(HISTORY.of_lm(self), n, file)

    def _asked(self, prompt: Any, messages: Any, params: dict[str, Any]) -> LMReply:
        asked = check.asked(prompt, messages)
        counted = count_own()
        if counted is not None and asyncio._get_running_loop() is None:
            counted.result()
        with _Entry(self._name, asked) as entry:
            if type(self).forward is BaseLM.forward and type(self).aforward is not BaseLM.aforward:
                answer = in_background_loop(lambda: self.aforward(**_named(self.aforward, asked), **params), self._name)
            else:
                answer = self._forward(asked, params)
            reply = entry.answered(answer)
        if entry.charged is not None and asyncio._get_running_loop() is None:
            entry.charged.result()
        return reply

    async def _aasked(self, prompt: Any, messages: Any, params: dict[str, Any]) -> LMReply:
        asked = check.asked(prompt, messages)
        if (counted := count_own()) is not None:
            await asyncio.wrap_future(counted)
        with _Entry(self._name, asked) as entry:
            reply = entry.answered(await self.aforward(**_named(self.aforward, asked), **params))
        if entry.charged is not None:
            await asyncio.shield(asyncio.wrap_future(entry.charged))
        return reply

    def stream(
        self, prompt: str | list[dict[str, Any]] | None = None, *, messages: Any = None, **params: Any
    ) -> LMStream:
        """Ask it and read its answer as it comes: `for piece in lm.stream(...)`, or `async for`.

        One of the user's own gives its whole reply as one piece, unless it has a `forward_stream(messages, **params)`,
        a generator of texts or pieces, sync or async; a sync one may return a reply with usage.

        Args:
            prompt: a text, or a list of role/content messages.
            messages: the list, as DSPy names it.
            params: parameters of this call; of an `LM` settings, too: `timeout` is how many seconds the model may be
                silent before its first piece and between two of them, `deadline` holds for the whole reply.

        Returns:
            An iterator of pieces; its `reply` is the whole reply when all are read.

        Raises:
            ConfigError: the call is not usable, or nothing is connected. What goes wrong with it later is raised where
                its pieces are read.
        """
        return LMStream(*self._streams(prompt, messages, params))

    def _streams(self, prompt: Any, messages: Any, params: dict[str, Any]) -> tuple[Source, Operation | None]:
        asked, forward = check.asked(prompt, messages), getattr(self, "forward_stream", None)
        if forward is None:
            return WholeSource(lambda: self(asked, **params), lambda: self.acall(asked, **params)), None
        entry = _Entry(self._name, asked)
        return OwnSource(self._name, lambda: forward(**_named(forward, asked), **params), entry), None

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
    def capabilities(self) -> Capabilities:
        """What it can do beside writing text; nothing, for an LM of one's own that does not say so."""
        provider, model = getattr(self, "provider", None), getattr(self, "model_name", None)
        shows = getattr(self, "model_type", "chat") == "responses"
        return NOTHING if provider is None or model is None else capabilities_of(provider, model, shows)

    @property
    def supports_function_calling(self) -> bool:
        """Whether it takes `tools` and its replies have `tool_calls`."""
        return self.capabilities.function_calling

    @property
    def supports_reasoning(self) -> bool:
        """Whether it takes `reasoning_effort` and its replies have `reasoning`."""
        return self.capabilities.reasoning

    @property
    def supports_response_schema(self) -> bool:
        """Whether it takes a `response_format` with a JSON schema."""
        return self.capabilities.response_schema

    @property
    def supported_params(self) -> frozenset[str]:
        """Parameters that it is known to take, those that matter to adapters."""
        return self.capabilities.params

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
        self._operation = part(model, "lm", messages)
        self._reply: LMReply | None = None
        #: Done when its cost is taken off the limits that it counts for; None: there are none. Who has waited for it
        #: begins no other call beyond a limit.
        self.charged: Future[None] | None = None

    def answered(self, answer: Any) -> LMReply:
        """Return what the LM has answered as a reply."""
        self._reply = reply_of(answer, self._messages, self._model, time.perf_counter() - self._started)
        return self._reply

    def __enter__(self) -> Self:
        check_own(self._ledger, settings.whose()[1])
        self._operation.__enter__()
        if self._ledger is not None:
            self._ledger.left()  # an example that has its result asks for nothing more
            self._number = self._ledger.begin(self._at, OWN, self._model, prompt_tokens(self._messages))
            self._handed = self._open.enter_context(self._ledger.handing_on(self._number))
        self._asked_inside = self._open.enter_context(record_calls())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._open.close()
        reply = self._operation.outputs = self._reply if error is None else None
        self._operation.__exit__(kind, error, trace)
        if not self._asked_inside and not self._asked_inside.in_vain:
            if reply is not None:
                book_call(reply)
            else:
                book_failure(getattr(error, "asked", None) or 1)
        if self._ledger is None:
            if self._asked_inside or self._asked_inside.in_vain:
                return
        elif self._handed is not None and self._handed.is_taken:
            return
        told: dict[str, Any] = {}
        if reply is not None:
            told = {"usage": reply.usage.to_json(), "cost": reply.cost, "finish_reason": reply.finish_reason}
            told["request_id"] = reply.request_id
        elif isinstance(error, Exception):
            told = {"error": type(error).__name__}
        outcome = "answered" if reply is not None else "failed" if told else "cancelled"
        latency = time.perf_counter() - self._started
        user, tags = settings.whose()
        told |= {"user": user, "tags": tags_text(tags)}
        ledger, whose, enter = self._ledger, (0, 0, 0), book_outside
        if ledger is not None:
            whose, enter = (ledger.index, ledger.send, self._number), ledger.book
        enter(Attempt(*whose, self._at, OWN, self._model, outcome, latency=latency, **told))
        self.charged = charge_own(ledger, tags, None if reply is None else reply.cost)


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
    said = answer
    if choices:
        finish_reason = _get(choices[0], "finish_reason")
        said = _get(choices[0], "message")
        text = _get(said, "content") or ""
    else:
        text = answer if isinstance(answer, str) else _get(answer, "text")
    calls, reasoning = _get(said, "tool_calls"), _get(said, "reasoning_content")
    if text is None and calls:
        text = ""
    if not isinstance(text, str):
        raise ConfigError(f"the answer of {model} is invalid: got {check.shown(answer)}, expected a text or a reply")
    return LMReply(
        text=text,
        usage=usage_of(_usage(usage), messages, text),
        cost=cost if isinstance(cost := _get(answer, "cost"), int | float) else None,
        model=str(_get(answer, "model") or model),
        latency=latency,
        finish_reason=finish_reason or _get(answer, "finish_reason"),
        provider=OWN,
        content=_parts(text, calls, reasoning, model) if calls or isinstance(reasoning, str) else None,
    )


def _parts(text: str, calls: Any, reasoning: Any, model: str) -> tuple[Part, ...]:
    """Return the parts of an answer that has more to say than a text."""
    parts: list[Part] = [Thinking(reasoning, OWN)] if isinstance(reasoning, str) and reasoning else []
    parts += [Text(text)] if text else []
    for call in calls or ():
        function = _get(call, "function") or call
        arguments = _get(function, "arguments")
        try:
            parts.append(
                ToolCall(_get(function, "name"), "{}" if arguments is None else arguments, _get(call, "id") or "")
            )
        except ConfigError as error:
            raise ConfigError(f"the answer of {model} is invalid: {error}") from None
    return tuple(parts)


def _get(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _usage(told: Any) -> Usage | None:
    if told is None or isinstance(told, Usage):
        return told
    tokens = [_get(told, name) for name in ("prompt_tokens", "completion_tokens")]
    return Usage(input_total=tokens[0], output_total=tokens[1]) if all(type(n) is int for n in tokens) else None
