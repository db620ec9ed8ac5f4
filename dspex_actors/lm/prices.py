"""What a call cost, from the providers' published list prices.

A small table on purpose: a model that is not in it costs None (unknown), never a guess. Prices are those of
the standard tier; batch, flex and priority tiers, and contracts, differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dspex_actors.lm.usage import Usage


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens.

    Args:
        input: prompt tokens that are not cached.
        output: reply tokens.
        cache_read: prompt tokens read from the cache; None: as `input`.
        cache_write: prompt tokens written to the cache; None: as `input`.
        max_input: longest prompt these prices hold for, in tokens; None: any.
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    max_input: int | None = None


#: As of autumn 2025, from the providers' price pages.
PRICES: dict[str, dict[str, Price]] = {
    "openai": {
        "gpt-4o": Price(2.50, 10.00, 1.25),
        "gpt-4o-2024-05-13": Price(5.00, 15.00),
        "gpt-4o-mini": Price(0.15, 0.60, 0.075),
        "gpt-4.1": Price(2.00, 8.00, 0.50),
        "gpt-4.1-mini": Price(0.40, 1.60, 0.10),
        "gpt-4.1-nano": Price(0.10, 0.40, 0.025),
        "gpt-5": Price(1.25, 10.00, 0.125),
        "gpt-5-mini": Price(0.25, 2.00, 0.025),
        "gpt-5-nano": Price(0.05, 0.40, 0.005),
        "o3": Price(2.00, 8.00, 0.50),
        "o3-mini": Price(1.10, 4.40, 0.55),
        "o4-mini": Price(1.10, 4.40, 0.275),
        "gpt-4-turbo": Price(10.00, 30.00),
        "gpt-3.5-turbo": Price(0.50, 1.50),
    },
    "anthropic": {
        "claude-3-haiku": Price(0.25, 1.25, 0.03, 0.30),
        "claude-3-5-haiku": Price(0.80, 4.00, 0.08, 1.00),
        "claude-3-5-sonnet": Price(3.00, 15.00, 0.30, 3.75),
        "claude-3-7-sonnet": Price(3.00, 15.00, 0.30, 3.75),
        "claude-sonnet-4": Price(3.00, 15.00, 0.30, 3.75, max_input=200_000),
        "claude-sonnet-4-5": Price(3.00, 15.00, 0.30, 3.75, max_input=200_000),
        "claude-haiku-4-5": Price(1.00, 5.00, 0.10, 1.25),
        "claude-opus-4": Price(15.00, 75.00, 1.50, 18.75),
        "claude-opus-4-1": Price(15.00, 75.00, 1.50, 18.75),
    },
    "gemini": {
        "gemini-2.0-flash": Price(0.10, 0.40, 0.025),
        "gemini-2.5-flash": Price(0.30, 2.50),
        "gemini-2.5-flash-lite": Price(0.10, 0.40),
        "gemini-2.5-pro": Price(1.25, 10.00, max_input=200_000),
    },
    "cohere": {
        "command-a-03-2025": Price(2.50, 10.00),
        "command-r-08-2024": Price(0.15, 0.60),
        "command-r-plus-08-2024": Price(2.50, 10.00),
        "command-r7b-12-2024": Price(0.0375, 0.15),
    },
}

#: Suffixes by which providers name a snapshot of a model: -2024-07-18, -20241022, -001, -latest.
_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{3}|latest)$")


def price_of(provider: str, model: str) -> Price | None:
    """Return the list price of a model, or of the one it is a snapshot of; None when it is not there."""
    table = PRICES.get(provider, {})
    return table.get(model) or table.get(_SNAPSHOT.sub("", model))


def cost(usage: Usage, provider: str, model: str) -> float | None:
    """Price a call's usage.

    Args:
        usage: the tokens used.
        provider: openai, anthropic, gemini, cohere or embedded.
        model: the model's name without the provider, a dated snapshot or not.

    Returns:
        USD at list price; 0.0 for the embedded LM; None when the price is unknown.
    """
    if provider == "embedded":
        return 0.0
    price = price_of(provider, model)
    if price is None or usage.audio or (price.max_input is not None and usage.input_total > price.max_input):
        return None  # audio has prices of its own, and long prompts a higher tier: unknown is better than wrong
    plain = max(0, usage.input_total - usage.cache_read - usage.cache_write)
    read = price.input if price.cache_read is None else price.cache_read
    write = price.input if price.cache_write is None else price.cache_write
    dollars = (
        plain * price.input + usage.cache_read * read + usage.cache_write * write + usage.output_total * price.output
    )
    return dollars / 1_000_000
