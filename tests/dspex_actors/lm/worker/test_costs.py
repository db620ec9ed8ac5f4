"""What a request is booked with: tokens that were told, also with an error, and a price, also at one's own server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dspex_actors.errors import ContentBlocked, LMError, Overloaded
from dspex_actors.lm import prices
from dspex_actors.lm.deployment import Deployment
from dspex_actors.lm.usage import Usage, prompt_tokens
from dspex_actors.lm.worker import books
from dspex_actors.lm.worker.session import LMSession

HI = [{"role": "user", "content": "hi"}]
USED = Usage(9, output_total=4)


@pytest.mark.parametrize("status", [200, 500])
def test_what_the_provider_told_with_its_error_is_booked(status: int) -> None:
    error = ContentBlocked("no", status=status, usage=USED.to_dict())
    assert books.failed_usage(error, HI) == USED
    assert books.failed_usage(Overloaded("x", status=500), HI) == Usage()
    assert books.failed_usage(Overloaded("x"), HI) == Usage(prompt_tokens(HI), estimated=True)


def test_told_usage_travels_with_the_error() -> None:
    error = LMError("x", usage=USED.to_dict())
    assert error.to_record()["usage"]["input_total"] == 9


@pytest.mark.parametrize(("tier", "dollars"), [("default", 0.0012), ("flex", None)])
def test_a_server_of_ones_own_has_the_users_prices(
    serve: Any,
    answer: Any,
    chat: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tier: str,
    dollars: float | None,
) -> None:
    async def cost() -> float | None:
        async with serve(lambda *_: answer(200, chat(service_tier=tier))) as server:
            session = LMSession(Deployment("openai", "mine", base_url=server.url, api_key="env:OPENAI_API_KEY"))
            try:
                return (await session.complete(HI)).cost
            finally:
                await session.aclose()

    monkeypatch.delenv("DSPEX_PRICES", raising=False)
    prices.told_prices.cache_clear()
    assert asyncio.run(cost()) is None
    file = tmp_path / "prices.toml"
    file.write_text('["openai/mine"]\ninput = 1.0\noutput = 2.0\n')
    monkeypatch.setenv("DSPEX_PRICES", str(file))
    prices.told_prices.cache_clear()
    try:
        assert asyncio.run(cost()) == (None if dollars is None else pytest.approx(dollars))
    finally:
        prices.told_prices.cache_clear()
