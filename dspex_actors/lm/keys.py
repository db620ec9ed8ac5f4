"""API keys: they exist as references everywhere, and as values only where a request is made.

A reference is `env:NAME`. It may be in settings, messages, logs and files. Its value is looked up inside the
worker that talks to the provider, is remembered (`foundation/secrets.py`) only so that it can be taken out of texts,
and goes nowhere else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

from dspex_actors.errors import AuthError, ConfigError
from dspex_actors.foundation.secrets import FORMS, remember

#: The `code` of an error whose key another node may have.
NO_KEY = "no_key_here"
#: Told of each variable that is looked up and is not set here.
missing_told: list[Callable[[str], object]] = []
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,127}")


def check_reference(reference: object) -> str:
    """Return `reference` if it is one.

    Raises:
        ConfigError: it is not. The message does not repeat it: it may well be a key.
    """
    if isinstance(reference, str) and _REFERENCE.fullmatch(reference) and not FORMS.search(reference):
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
        for tell in missing_told:
            tell(name)
        raise AuthError(
            f"no API key: the environment variable {name} is not set on this node: set it and start the node anew",
            retryable=False,
            code=NO_KEY,
        )
    if not value.isascii() or not value.isprintable() or " " in value:
        raise AuthError(
            f"the environment variable {name} does not hold an API key: it has blanks or characters "
            "that a header cannot carry",
            retryable=False,
        )
    remember(value)
    return value
