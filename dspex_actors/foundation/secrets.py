"""Secrets in texts: what looks like an API key, or is one that this process has used, is taken out of what is shown.

What keys are and where their values come from is `dspex_actors.lm.keys`' concern.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

#: What keys look like on the wire: `Bearer x`, OpenAI's, Anthropic's and friends' `sk-…` (masked ones too),
#: Google's.
FORMS = re.compile(
    r"(?P<bearer>\bBearer\s+)[^\s\"',;<>\\]+|\bsk-[A-Za-z0-9_*.\-]{6,}|\bAIza[A-Za-z0-9_*\-]{10,}",
    re.IGNORECASE,
)
#: A text that is, or holds, somebody's key: stricter than what is scrubbed, since what has one is refused.
_KEYS = re.compile(
    r"\bsk-(?:[A-Za-z0-9]+-){0,3}[A-Za-z0-9_]{16,}|\bAIza[A-Za-z0-9_\-]{30,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgsk_[A-Za-z0-9]{20,}"
    r"|\bxox[abprs]-[A-Za-z0-9\-]{16,}|\bhf_[A-Za-z0-9]{30,}|\bBearer\s+(?=\S*\d)[A-Za-z0-9_\-.=]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
#: What every text has, in lower case, in which `FORMS` finds something; and those in which only `_KEYS` does.
_CLUES = ("bearer", "sk-", "aiza")
_KEY_CLUES = ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "gsk_", "xox", "hf_", "-----BEGIN")
_SECRET_VARIABLE = re.compile(r".*_(?:KEY|TOKEN|SECRET|PASSWORD)", re.IGNORECASE)
#: Shorter values of such variables are ordinary words.
_SHORTEST_SECRET = 8
#: Shorter values are not taken out of texts: they would punch holes into ordinary words.
_SHORTEST = 4
_MASK = "[key]"

_values: set[str] = set()


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
    lower = text.casefold()
    if not any(clue in lower for clue in _CLUES):  # twenty times as fast as the expression
        return text
    return FORMS.sub(lambda match: (match["bearer"] or "") + _MASK, text)


def scrub_data(text: str) -> str:
    """Return a text of a user's without keys: what `scrub` takes out, and what `looks_like_key` finds."""
    text = scrub(text)
    return _KEYS.sub(_MASK, text) if any(clue in text for clue in _KEY_CLUES) else text
