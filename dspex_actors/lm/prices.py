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
from dspex_actors.lm.wire import PROVIDERS

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

    def half(self) -> Price:
        """Return what it is in a batch, where nobody says otherwise: half, of what a cache has, too."""
        names = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
        halves = {name: steps for name in names if (steps := getattr(self, name)) is not None}
        return Price(**{name: tuple((start, usd / 2) for start, usd in steps) for name, steps in halves.items()})


#: Tiers that cost something else than the standard one; "auto" and the like may be any.
PRICED_TIERS = ("flex", "priority", "scale", "fast", "batch")
#: That of requests in a batch, at all who have batches.
BATCH = "batch"
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
    price = _price_of(provider, model, tier, listed, now)
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


def _price_of(provider: str, model: str, tier: str | None, listed: bool, now: float | None) -> Price | None:
    price = None
    told = told_prices()
    if told and tier in (None, BATCH):
        price = told.get(f"{provider}/{model}") or told.get(f"{provider}/{_SNAPSHOT.sub('', model)}")
        if price is not None and tier == BATCH:
            return price.half()
    if price is None and listed:
        day = int((time.time() if now is None else now) // DAY_SECONDS)
        price = _list_price(provider, model, tier, day)
        if price is None and tier == BATCH and (full := _list_price(provider, model, None, day)) is not None:
            price = full.half()
    return price


def most(
    provider: str,
    model: str,
    prompt: int,
    reply: int,
    *,
    tier: str | None = None,
    is_sure: bool = False,
    listed: bool = True,
    now: float | None = None,
) -> float | None:
    """Return the most that a request may cost, in USD; None: unknown.

    Args:
        provider: openai, anthropic, gemini, cohere or embedded.
        model: the model's name without the provider.
        prompt: tokens of the prompt at most, whatever a cache does with them.
        reply: tokens of the reply at most.
        tier: how it asks to be billed; None: the standard way. It may be billed that way all the same.
        is_sure: it is billed as it asks.
        listed: False where list prices do not hold.
        now: seconds since the epoch; None: now.
    """
    if provider == "embedded":
        return 0.0
    tiers = [tier] if is_sure else list(dict.fromkeys((None, tier)))
    prices = [_price_of(provider, model, each, listed, now) for each in tiers]
    known = [price for price in prices if price is not None]
    if len(known) < len(prices) and tier in (None, *PRICED_TIERS):
        return None
    if not known:
        return None
    return max(_most(price, prompt, reply) for price in known)


def _most(price: Price, prompt: int, reply: int) -> float:
    kinds = (price.input, price.cache_read, price.cache_write, price.cache_write_1h)
    highest = max(_highest(steps, prompt) for steps in kinds if steps is not None)
    return (prompt * highest + reply * _highest(price.output, prompt)) / 1_000_000


def _highest(steps: Steps, prompt: int) -> float:
    return max(price for start, price in steps if start < max(prompt, 1))


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
            text = file.read().decode()
        tables = tomllib.loads(text)
        return {model: _told_price(path, text, model, table) for model, table in tables.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
    raise ConfigError(f"{FILE_VARIABLE}: cannot read {path!r}: {why}")


def _told_price(path: str, text: str, model: str, table: Any) -> Price:
    names = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
    given = table if isinstance(table, dict) else {}
    wrong = next((name for name, value in given.items() if name not in names or not _is_price(value)), "")
    where = f"{path}{_line_of(text, model, wrong)} [{model}]"
    if not {"input", "output"} <= given.keys() <= set(names):
        raise ConfigError(f"{where} is invalid: got {sorted(given) or table!r}, expected input, output and, if wanted, "
                          f"{', '.join(names[2:])}")  # fmt: skip
    if wrong:
        raise ConfigError(
            f"{where}: {wrong} is invalid: got {given[wrong]!r}, expected USD per million tokens, 0 or more"
        )
    provider, _, name = model.partition("/")
    if provider not in PROVIDERS or not name:
        raise ConfigError(f"{where} is invalid: no model is called so; expected provider/model with provider one of "
                          f"{', '.join(PROVIDERS)}")  # fmt: skip
    return Price(**{name: ((0, float(value)),) for name, value in given.items()})


def _is_price(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and 0 <= value < math.inf


def _line_of(text: str, model: str, name: str) -> str:
    """Return " line N" of a table's head, or of a name in it; nothing where it is written in another way."""
    head = 0
    for number, line in enumerate(text.splitlines(), 1):
        if model in line and line.lstrip().startswith("["):
            head = number
        elif head and name and re.match(rf"\s*[\"']?{re.escape(name)}[\"']?\s*=", line):
            return f" line {number}"
    return f" line {head}" if head else ""


@functools.lru_cache(maxsize=512)
def _list_price(provider: str, model: str, tier: str | None, day: int) -> Price | None:
    info = _find(provider, model)
    if info is None:
        return None
    moment = datetime.fromtimestamp(day * DAY_SECONDS, UTC)
    if tier is None:
        return _price(info.get_prices(moment), embeds="embed" in model)
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


def _price(listed: ModelPrice, *, embeds: bool = False) -> Price | None:
    prices = {name: value for name, value in vars(listed).items() if value is not None}
    if embeds:  # vectors are no tokens of a reply
        prices.setdefault("output_mtok", 0)
    if not {"input_mtok", "output_mtok"} <= prices.keys() or any(_UNCOUNTED.search(name) for name in prices):
        return None
    names = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
    return Price(**{name: _steps(prices[f"{name}_mtok"]) for name in names if f"{name}_mtok" in prices})


def _steps(price: Any) -> Steps:
    tiers = getattr(price, "tiers", ())
    return ((0, float(getattr(price, "base", price))), *((tier.start, float(tier.price)) for tier in tiers))


def unknown_price(model: str) -> ConfigError:
    """Return the error for a request that a limit of money does not let pass, since nobody knows what it costs."""
    return ConfigError(
        f"the price of {model} is not known, so no limit of money could be kept: give it in the file that DSPEX_PRICES "
        f'names (["{model}"] with input and output, USD per million tokens), or let it pass with unknown_price="warn"'
    )
