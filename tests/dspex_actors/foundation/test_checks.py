"""Checks of what users give."""

import functools

import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.checks import check_handler


async def awaited(event):
    pass


class Awaited:
    async def __call__(self, event):
        pass


@pytest.mark.parametrize("handler", [awaited, Awaited(), functools.partial(awaited, 1), Awaited().__call__])
def test_an_async_handler_is_refused_where_it_would_never_be_awaited(handler):
    with pytest.raises(ConfigError, match="the handler is invalid: got an async function, expected a function of one"):
        check_handler(handler, "a function of one event")


@pytest.mark.parametrize("handler", [print, [].append, lambda event: None, functools.partial(print, 1)])
def test_a_function_is_a_handler(handler):
    check_handler(handler, "a function of one event")
