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
#: A text that is, or holds, somebody's key: stricter than what is scrubbed, since what has one is refused.
_KEYS = re.compile(
    r"\bsk-(?:[A-Za-z0-9]+-){0,3}[A-Za-z0-9_]{16,}|\bAIza[A-Za-z0-9_\-]{30,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgsk_[A-Za-z0-9]{20,}"
    r"|\bxox[abprs]-[A-Za-z0-9\-]{16,}|\bhf_[A-Za-z0-9]{30,}|\bBearer\s+(?=\S*\d)[A-Za-z0-9_\-.=]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_SECRET_VARIABLE = re.compile(r".*_(?:KEY|TOKEN|SECRET|PASSWORD)", re.IGNORECASE)
#: Shorter values of such variables are ordinary words.
_SHORTEST_SECRET = 8
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


def looks_like_key(text: str) -> bool:
    """Tell whether a text is or holds somebody's key, by its form."""
    return _KEYS.search(text) is not None


def secrets_of(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the secrets of an environment, each with the variable that holds it (`..._KEY`, `_TOKEN`, `_SECRET`).

    Args:
        environ: variables; None: this process's.
    """
    return {
        text: name
        for name, value in (os.environ if environ is None else environ).items()
        if _SECRET_VARIABLE.fullmatch(name) and len(text := value.strip()) >= _SHORTEST_SECRET
    }


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
