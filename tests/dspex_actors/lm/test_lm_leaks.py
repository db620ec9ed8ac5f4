"""No key in any error, repr, pickle, record, log line or traceback, whatever goes wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import traceback
from typing import Any

import pytest

from dspex_actors.errors import AuthError, ConfigError, LMError
from dspex_actors.foundation import secrets
from dspex_actors.lm import keys
from dspex_actors.lm.deployment import Deployment
from dspex_actors.lm.lm import LM
from dspex_actors.lm.request import Options
from dspex_actors.lm.worker.session import LMSession

KEY = "my-own-gateway-key-42"
HI = [{"role": "user", "content": "hi"}]

PROVIDERS = ["openai/m", "anthropic/m", "gemini/m", "cohere/m"]
FAULTS: dict[str, Any] = {
    "echo in a 401": lambda a: a(401, {"error": {"message": f"Incorrect API key provided: {KEY}.", "code": KEY}}),
    "echo in html": lambda a: a(200, f"<html>Authorization: Bearer {KEY}</html>".encode()),
    "echo of a masked key": lambda a: a(
        401, {"error": {"message": "Incorrect: sk-abc***wxyz and AIzaSyA1234567890bcd"}}
    ),
    "echo at the cut": lambda a: a(500, {"error": {"message": "x" * (300 - len(KEY) // 2) + KEY}}),
    "echo in a redirect": lambda a: a(307, b"", {"location": f"https://{KEY}.example/?key={KEY}"}),
    "echo in an id": lambda a: a(500, {"error": {"message": "x"}, "request_id": KEY}, {"x-request-id": KEY}),
    "echo in an encoding": lambda a: a(200, b"x", {"content-encoding": KEY}),
    "echo as a block reason": lambda a: a(200, {"promptFeedback": {"blockReason": KEY}, "choices": [], "error": None}),
    "closed": lambda a: "close",
    "cut": lambda a: (a(200, KEY.encode() * 9)[:-3], "cut"),
    "no http": lambda a: (f"{KEY}\r\n\r\n".encode(), "cut"),
    "bad header": lambda a: (f"HTTP/1.1 200 OK\r\nbad header {KEY}\r\n\r\n".encode(), "cut"),
    "hang": lambda a: "hang",
}


def everything(error: BaseException) -> str:
    """Return all that an error shows in any way, its frames' variables included."""
    seen = [repr(error), str(error), "".join(traceback.format_exception(error))]
    seen.append(pickle.dumps(error).decode("latin-1"))
    seen.append(repr(vars(error)))
    chain: BaseException | None = error
    while chain is not None:
        summary = traceback.StackSummary.extract(traceback.walk_tb(chain.__traceback__), capture_locals=True)
        # The server's own frames are the test's; they hold the key on purpose.
        seen += [
            repr(frame.locals)
            for frame in summary
            if "dspex_actors/lm/" in frame.filename and "tests" not in frame.filename
        ]
        chain = chain.__cause__ or chain.__context__
    if isinstance(error, LMError):
        seen.append(json.dumps(error.to_record()))
    return "\n".join(seen)


@pytest.mark.parametrize("model", PROVIDERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_error_path_shows_the_key(
    serve: Any,
    answer: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    model: str,
    fault: str,
) -> None:
    monkeypatch.setenv("GATEWAY_KEY", KEY)
    caplog.set_level(logging.DEBUG)

    async def go() -> LMError:
        async with serve(lambda *_: FAULTS[fault](answer)) as server:
            base = server.url + ("/v1" if model.startswith("openai") else "")
            session = LMSession(Deployment(*model.split("/"), base, "env:GATEWAY_KEY"))
            session._sleep = lambda _: asyncio.sleep(0)
            try:
                await session.complete(HI, options=Options(timeout=0.2, deadline=1.0))
            except LMError as error:
                assert KEY in server.heads[0]
                assert KEY not in repr(session) + repr(vars(session))
                return error
            finally:
                await session.aclose()
            raise AssertionError("the call should have failed")

    error = asyncio.run(go())
    shown = everything(error)
    assert KEY not in shown
    assert "sk-abc" not in shown
    assert "AIzaSyA" not in shown
    assert KEY not in caplog.text
    assert error.__context__ is None
    assert error.__cause__ is None
    assert error.provider == model.split("/")[0]


def test_a_connection_refused_shows_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_KEY", KEY)

    async def go() -> None:
        session = LMSession(Deployment("openai", "m", "http://127.0.0.1:9/v1", "env:GATEWAY_KEY"))
        try:
            await session.complete(HI, options=Options(deadline=0.01))
        finally:
            await session.aclose()

    with pytest.raises(LMError) as caught:
        asyncio.run(go())
    assert KEY not in everything(caught.value)


def test_an_lm_never_holds_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_KEY", KEY)
    lm = LM("openai/m", api_key="env:GATEWAY_KEY")
    assert keys.resolve("env:GATEWAY_KEY") == KEY
    shown = repr(lm) + repr(lm.to_dict()) + repr(lm.dump_state()) + pickle.dumps(lm).decode("latin-1") + lm.identity()
    assert KEY not in shown
    assert "env:GATEWAY_KEY" in shown


@pytest.mark.parametrize("value", [None, "", "   ", "two words", "new\nline", "smörgås", "tab\tbed"])
def test_a_variable_without_a_usable_key_is_named_but_not_quoted(value: str | None) -> None:
    with pytest.raises(AuthError, match="THE_KEY") as caught:
        keys.resolve("env:THE_KEY", {} if value is None else {"THE_KEY": value})
    assert caught.value.retryable is False
    assert not value or not value.strip() or value.strip() not in str(caught.value)


@pytest.mark.parametrize("reference", ["OPENAI_API_KEY", "env:", "env:1X", "file:/etc/passwd", "keyring:x", "env:A B"])
def test_only_environment_variables_can_be_referred_to(reference: str) -> None:
    with pytest.raises(ConfigError, match="env:OPENAI_API_KEY"):
        keys.resolve(reference, {})


def test_white_space_around_a_key_is_not_part_of_it() -> None:
    assert keys.resolve("env:K", {"K": " abcd-efgh\n"}) == "abcd-efgh"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Authorization: Bearer abc.def-ghi=, next", "Authorization: Bearer [key], next"),
        ("key sk-proj-Ab_12.x is wrong", "key [key] is wrong"),
        ("sk-ant-api03-aaaa", "[key]"),
        ("?key=AIzaSyA1234567890_-b&x=1", "?key=[key]&x=1"),
        ("a task-related risk-free desk-job", "a task-related risk-free desk-job"),
        ("bearer of news", "bearer [key] news"),
    ],
)
def test_scrub(text: str, clean: str) -> None:
    assert secrets.scrub(text) == clean


def test_scrub_takes_the_longer_of_two_keys_first() -> None:
    secrets.remember("prefix-key")
    secrets.remember("prefix-key-and-more")
    assert secrets.scrub("a prefix-key-and-more b prefix-key c") == "a [key] b [key] c"
