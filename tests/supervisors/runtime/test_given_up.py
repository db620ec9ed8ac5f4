"""What a server wants to hear of callers that wait no more costs nobody else anything."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, cast

from supervisors import Caller, Ref
from supervisors.runtime.process.calls import Calls
from supervisors.wire.messages import Abandon, Call

ME, OTHER = Ref("127.0.0.1", 1, 1, 1, "a" * 16), Ref("127.0.0.1", 2, 1, 1, "b" * 16)


def test_what_such_a_function_raises_is_not_raised_among_the_messages_that_are_taken_in() -> None:
    async def body() -> None:
        loop, told = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, context: told.append(type(context["exception"])))
        calls = Calls(ME, loop, itertools.count(1), lambda *_: None, cast("Any", None))
        for number, function in ((1, lambda: 1 / 0), (2, lambda: told.append("given up"))):
            calls.opened(Call(ME.uid, number, OTHER, b""))
            calls.when_given_up(Caller(OTHER, number, ME), function)
            calls.abandoned(Abandon(ME.uid, number, OTHER))
        await asyncio.sleep(0)
        assert told == [ZeroDivisionError, "given up"]
        assert calls.waiting() == 0

    asyncio.run(body())
