"""`streamify`: a program whose answer is read as it comes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable
from contextlib import suppress
from contextvars import copy_context
from typing import Any

import orjson

from dspex_actors.adapters.reading import jsonable
from dspex_actors.example import Prediction
from dspex_actors.foundation import tap as taps
from dspex_actors.foundation.bridge import in_thread, on_background_loop
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.lm.content.pieces import Piece
from dspex_actors.programs.streaming.listener import StreamListener, by_predictor
from dspex_actors.programs.streaming.messages import StatusMessage, StatusMessageProvider, StreamResponse
from dspex_actors.programs.streaming.tap import Channel, ReaderGone, StreamTap

_END = object()


def streamify(
    program: Any,
    status_message_provider: StatusMessageProvider | None = None,
    stream_listeners: Iterable[StreamListener] | None = None,
    include_final_prediction_in_output_stream: bool = True,
    is_async_program: bool = False,
    async_streaming: bool = True,
) -> Callable[..., Any]:
    """Return a program that gives out its answer while it comes.

        listeners = [dspex.streaming.StreamListener("answer")]
        tell = dspex.streamify(dspex.Predict("question -> answer"), stream_listeners=listeners)
        async for value in tell(question="Why is the sky blue?"):
            if isinstance(value, dspex.streaming.StreamResponse):
                print(value.chunk, end="")

    It gives, in the order in which they come up: a `StreamResponse` for each piece of a field that is listened to
    (without listeners a `Piece` for each piece of any LM's answer), a `StatusMessage` for what is worded, and the
    `Prediction` at last. Who does not read on ends the program, and the request that is under way. An answer of which
    something was shown and that cannot be read is not asked for again in another form.

    Args:
        program: a Module, or any function.
        status_message_provider: words status messages; None: one that speaks of tools only.
        stream_listeners: which fields to give.
        include_final_prediction_in_output_stream: False: the prediction comes only where no field was given, or an
            answer came from a cache.
        is_async_program: call it by `acall`; else it runs in a thread, if it is not an async function.
        async_streaming: False: return a plain generator, for `for`.

    Raises:
        ConfigValueError: a listener's field is in no predictor, or in several.
    """
    listeners = [] if stream_listeners is None else list(stream_listeners)
    found = by_predictor(program, listeners)
    provider = status_message_provider or StatusMessageProvider()
    if not hasattr(provider, "tool_start_status_message"):
        raise ConfigValueError(
            f"status_message_provider is invalid: got {type(provider).__name__}, expected a StatusMessageProvider"
        )

    async def stream(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        channel = Channel(asyncio.get_running_loop())
        tap = StreamTap(channel, found, provider)
        frame = copy_context()
        frame.run(taps.tap.set, tap)
        task = channel.loop.create_task(_run(program, args, kwargs, is_async_program), context=frame)
        task.add_done_callback(lambda _: channel.put_now(_END))
        try:
            while (item := await channel.get()) is not _END:
                yield item
            prediction = task.result()
            if include_final_prediction_in_output_stream or not tap.has_heard or tap.has_cached:
                yield prediction
        finally:
            tap.close()
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, Exception, ReaderGone):
                    await task

    if async_streaming:
        return stream
    return lambda *args, **kwargs: apply_sync_streaming(stream(*args, **kwargs))


async def _run(program: Any, args: Any, kwargs: Any, is_async: bool) -> Any:
    if is_async:
        return await program.acall(*args, **kwargs)
    if inspect.iscoroutinefunction(program) or inspect.iscoroutinefunction(getattr(program, "__call__", None)):  # noqa: B004
        return await program(*args, **kwargs)
    return await in_thread(lambda: program(*args, **kwargs))


def apply_sync_streaming(async_generator: AsyncGenerator[Any, None]) -> Generator[Any, None, None]:
    """Return an async generator as a plain one: it runs on an event loop of its own, one item at a time."""

    async def step() -> Any:
        return await anext(async_generator, _END)

    try:
        while (item := on_background_loop(step)) is not _END:
            yield item
    finally:
        on_background_loop(async_generator.aclose)


async def streaming_response(streamer: AsyncIterator[Any]) -> AsyncGenerator[str, None]:
    """Return a streamed program's values as server-sent events, for a web service's answer.

    A prediction is `{"prediction": {...}}`, a piece `{"chunk": {...}}`, a status message `{"status": "..."}`; at last
    comes `[DONE]`.

    Args:
        streamer: what a streamified program gives.

    Raises:
        ConfigValueError: a value is none of these.
    """
    async for value in streamer:
        if isinstance(value, Prediction):
            data: dict[str, Any] = {"prediction": {name: jsonable(each) for name, each in value.items()}}
        elif isinstance(value, StatusMessage):
            data = {"status": value.message}
        elif isinstance(value, StreamResponse | Piece):
            data = {"chunk": value}
        elif isinstance(value, str) and value.startswith("data:"):
            yield value
            continue
        else:
            raise ConfigValueError(
                f"a value of the stream is invalid: got {type(value).__name__}, expected a Prediction"
            )
        yield f"data: {orjson.dumps(data).decode()}\n\n"
    yield "data: [DONE]\n\n"
