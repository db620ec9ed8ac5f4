"""What a call cost: list prices as the package `genai-prices` keeps them, and prices that the user tells.

What is not known costs None, never a guess: a model that nobody lists, a tier without a price, audio. The user's prices
stand in a TOML file that DSPEX_PRICES names, in USD per million tokens; they hold for the standard tier, before the
list's, and for servers of one's own too:

    ["openai/my-model"]
    input = 0.15
    output = 0.60
    cache_read = 0.075      # without it: as input; so cache_write
"""

from __future__ import annotations

import functools
import math
import os
import re
import time
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dspex_actors.errors import ConfigError
from dspex_actors.lm.usage import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

#: The variable that names the file of the user's prices.
FILE_VARIABLE = "DSPEX_PRICES"
DAY_SECONDS = 86400

#: (tokens of the prompt, USD per million tokens), ascending: the last one that the prompt is longer than holds.
Steps = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of one model in one tier.

    Args:
        input: prompt tokens that are not cached.
        output: reply tokens.
        cache_read: prompt tokens read from the cache; None: as `input`.
        cache_write: prompt tokens written to the cache; None: as `input`.
        cache_write_1h: those that are kept for an hour; None: unknown.
    """

    input: Steps
    output: Steps
    cache_read: Steps | None = None
    cache_write: Steps | None = None
    cache_write_1h: Steps | None = None


#: Our providers' names in the list.
_LISTED = {"openai": "openai", "anthropic": "anthropic", "gemini": "google", "cohere": "cohere"}
#: Prices of things that we do not count apart, or not at all: with one of them the cost of a call is unknown.
_UNCOUNTED = re.compile(r"image|video|hours|mchars|requests")
#: Suffixes by which providers name a snapshot of a model: -2024-07-18, -20241022, -001, -latest.
_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{3}|latest)$")


def cost(
    usage: Usage, provider: str, model: str, *, tier: str | None = None, listed: bool = True, now: float | None = None
) -> float | None:
    """Price a request.

    Args:
        usage: the tokens used.
        provider: openai, anthropic, gemini, cohere or embedded.
        model: the model's name without the provider, a dated snapshot or not.
        tier: how it is billed (`WireReply.tier`); None: the standard way.
        listed: False where list prices do not hold, at another server than the provider's own.
        now: seconds since the epoch, for prices that change; None: now.

    Returns:
        USD; 0.0 for the embedded LM; None when it is unknown.

    Raises:
        ConfigError: the file of the user's prices is not usable.
    """
    if provider == "embedded":
        return 0.0
    price = None
    told = told_prices()
    if told and tier is None:
        price = told.get(f"{provider}/{model}") or told.get(f"{provider}/{_SNAPSHOT.sub('', model)}")
    if price is None and listed:
        price = _list_price(provider, model, tier, int((time.time() if now is None else now) // DAY_SECONDS))
    if price is None or usage.audio or (usage.cache_write_1h and price.cache_write_1h is None):
        return None
    prompt = usage.input_total
    dollars = usage.output_total * _at(price.output, prompt)
    if usage.cache_read or usage.cache_write:
        hour = usage.cache_write_1h
        dollars += usage.cache_read * _at(price.cache_read or price.input, prompt)
        dollars += max(0, usage.cache_write - hour) * _at(price.cache_write or price.input, prompt)
        dollars += hour * _at(price.cache_write_1h or price.input, prompt)
    plain = max(0, prompt - usage.cache_read - usage.cache_write)
    return (dollars + plain * _at(price.input, prompt)) / 1_000_000


def _at(steps: Steps, prompt: int) -> float:
    price = steps[0][1]
    if len(steps) > 1:
        for start, higher in steps:
            if prompt > start:
                price = higher
    return price


@functools.cache
def told_prices() -> dict[str, Price]:
    """Return the user's prices by model string, read once per process.

    Raises:
        ConfigError: the file is not there, or something in it is no price.
    """
    path = os.environ.get(FILE_VARIABLE)
    if not path:
        return {}
    why = ""
    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
        return {model: _told_price(f"{path} [{model}]", table) for model, table in tables.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
    raise ConfigError(f"{FILE_VARIABLE}: cannot read {path!r}: {why}")


def _told_price(where: str, table: Any) -> Price:
    names = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
    given = table if isinstance(table, dict) else {}
    if not {"input", "output"} <= given.keys() <= set(names):
        raise ConfigError(f"{where} is invalid: got {sorted(given) or table!r}, expected input, output and, if wanted, "
                          f"{', '.join(names[2:])}")  # fmt: skip
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise ConfigError(f"{where}: {name} is invalid: got {value!r}, expected USD per million tokens, 0 or more")
    return Price(**{name: ((0, float(value)),) for name, value in given.items()})


@functools.lru_cache(maxsize=512)
def _list_price(provider: str, model: str, tier: str | None, day: int) -> Price | None:
    info = _find(provider, model)
    if info is None:
        return None
    moment = datetime.fromtimestamp(day * DAY_SECONDS, UTC)
    if tier is None:
        return _price(info.get_prices(moment))
    context = {"processing": tier} if tier == "batch" else {"service_tier": tier, "speed": tier}
    known = {
        name
        for variant in info.price_variants or ()
        if variant.when.items() <= context.items() and (variant.constraint is None or variant.constraint.active(moment))
        for name in vars(variant.prices)
    }
    return _price(info.get_prices(moment, context)) if {"input_mtok", "output_mtok"} <= known else None


def _find(provider: str, model: str) -> ModelInfo | None:
    """Return what the list has of a model, or of the one it is a snapshot of."""
    for name in (model, _SNAPSHOT.sub("", model)):
        for info in _models(provider):
            if info.is_match(name):
                return info
    return None


@functools.cache
def _models(provider: str) -> Iterable[ModelInfo]:
    # A tenth of a second and 10 MB, for who pays: not before the first call that costs something.
    from genai_prices.data import providers

    return next((each.models for each in providers if each.id == _LISTED.get(provider)), ())


def _price(listed: ModelPrice) -> Price | None:
    prices = {name: value for name, value in vars(listed).items() if value is not None}
    if not {"input_mtok", "output_mtok"} <= prices.keys() or any(_UNCOUNTED.search(name) for name in prices):
        return None
    names = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
    return Price(**{name: _steps(prices[f"{name}_mtok"]) for name in names if f"{name}_mtok" in prices})


def _steps(price: Any) -> Steps:
    tiers = getattr(price, "tiers", ())
    return ((0, float(getattr(price, "base", price))), *((tier.start, float(tier.price)) for tier in tiers))
