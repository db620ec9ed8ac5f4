"""API keys: they exist as references everywhere, and as values only where a request is made.

A reference is `env:NAME`. It may be in settings, messages, logs and files. Its value is looked up inside the
worker that talks to the provider, is remembered here only so that `scrub` can take it out of texts, and goes
nowhere else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from dspex_actors.errors import AuthError, ConfigError

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,127}")
#: What keys look like on the wire: `Bearer x`, OpenAI's, Anthropic's and friends' `sk-…` (masked ones too),
#: Google's.
_PATTERNS = re.compile(
    r"(?P<bearer>\bBearer\s+)[^\s\"',;<>\\]+|\bsk-[A-Za-z0-9_*.\-]{6,}|\bAIza[A-Za-z0-9_*\-]{10,}",
    re.IGNORECASE,
)
#: Shorter values are not taken out of texts: they would punch holes into ordinary words.
_SHORTEST = 4
_MASK = "[key]"

_values: set[str] = set()


def check_reference(reference: object) -> str:
    """Return `reference` if it is one.

    Raises:
        ConfigError: it is not. The message does not repeat it: it may well be a key.
    """
    if isinstance(reference, str) and _REFERENCE.fullmatch(reference) and not _PATTERNS.search(reference):
        return reference
    raise ConfigError(
        "api_key: expected a reference such as 'env:OPENAI_API_KEY', got something else "
        "(not shown, it may be a key): put the key in an environment variable and name that"
    )


def variable(reference: str) -> str:
    """Return the name of the environment variable that a checked reference points at."""
    return reference.removeprefix("env:")


def resolve(reference: str, environ: Mapping[str, str] | None = None) -> str:
    """Look up a key.

    Args:
        reference: `env:NAME`.
        environ: where to look; None: this process's environment.

    Returns:
        The key, stripped of white space around it. From now on `scrub` knows it.

    Raises:
        AuthError: the variable is not set, is empty, or holds what no HTTP header can carry.
        ConfigError: `reference` is not a reference.
    """
    name = variable(check_reference(reference))
    value = (os.environ if environ is None else environ).get(name, "").strip()
    if not value:
        raise AuthError(
            f"no API key: the environment variable {name} is not set on this node: set it and start the node anew",
            retryable=False,
        )
    if not value.isascii() or not value.isprintable() or " " in value:
        raise AuthError(
            f"the environment variable {name} does not hold an API key: it has blanks or characters "
            "that a header cannot carry",
            retryable=False,
        )
    remember(value)
    return value


def remember(value: str) -> None:
    """Make `scrub` take `value` out of every text."""
    if len(value) >= _SHORTEST:
        _values.add(value)


def scrub(text: str) -> str:
    """Return `text` without API keys: those this process has resolved, and anything that looks like one."""
    # Longest first: one key may be the beginning of another.
    for value in sorted(_values, key=len, reverse=True):
        if value in text:
            text = text.replace(value, _MASK)
    return _PATTERNS.sub(lambda match: (match["bearer"] or "") + _MASK, text)
