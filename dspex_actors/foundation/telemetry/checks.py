"""What may be recorded: names, tags and values as users give them."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Mapping
from typing import Any, Literal

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.brief import HIDDEN, is_secret
from dspex_actors.foundation.secrets import scrub_data
from dspex_actors.foundation.telemetry.stats import LARGEST

Kind = Literal["counter", "gauge", "histogram", "summary"]
#: Names and values of a series's tags, in the order of the names.
Tags = tuple[tuple[str, str], ...]

#: Longest name, longest tag value, most tags.
NAME_CHARACTERS, TAG_CHARACTERS, MOST_TAGS = 200, 200, 16

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:[.:/-][A-Za-z0-9_]+)*")
_TAG = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


def check_name(name: Any) -> str:
    """Return the name of a metric.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(name, str) or len(name) > NAME_CHARACTERS or not _NAME.fullmatch(name):
        raise ConfigError(
            f"the metric's name is invalid: got {_shown(name)}, expected words of letters, digits and _ with dots "
            f"between them, such as 'search.duration', at most {NAME_CHARACTERS} characters"
        )
    return name


def check_tags(tags: Mapping[str, Any]) -> Tags:
    """Return tags as a series has them: texts, in the order of their names.

    Raises:
        ConfigError: there are too many, or a name or a value cannot be one.
    """
    if len(tags) > MOST_TAGS:
        raise ConfigError(f"the tags are invalid: got {len(tags)}, expected at most {MOST_TAGS}")
    return tuple(sorted((_tag_name(name), _tag_value(name, value)) for name, value in tags.items()))


def _tag_name(name: str) -> str:
    if len(name) > NAME_CHARACTERS or not _TAG.fullmatch(name):
        raise ConfigError(f"the tag's name is invalid: got {_shown(name)}, expected letters, digits and _")
    return name


def _tag_value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, (int, float)):
        return str(value)
    if is_secret(name):
        return HIDDEN
    if not isinstance(value, str) or len(value) > TAG_CHARACTERS:
        got = f"{len(value):,} characters" if isinstance(value, str) else _shown(value)
        raise ConfigError(
            f"the tag {name} is invalid: got {got}, expected a text of at most {TAG_CHARACTERS} characters, or a number"
        )
    # Halves of surrogate pairs cannot be sent, and a key must not be seen on a page.
    return scrub_data(value.encode("utf-8", "backslashreplace").decode())


def check_value(kind: Kind, name: str, value: Any) -> float:
    """Return what is recorded.

    Raises:
        ConfigError: it is no finite number, or a counter would fall.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ConfigError(f"the value of {name} is invalid: got {_shown(value)}, expected a number")
    number = value if isinstance(value, (int, float)) else float(value)
    if not -LARGEST <= number <= LARGEST:
        got = "NaN" if isinstance(number, float) and math.isnan(number) else f"{'-' if number < 0 else ''}a huge number"
        raise ConfigError(f"the value of {name} is invalid: got {got}, expected a finite one, at most {LARGEST:g}")
    if kind == "counter" and number < 0:
        raise ConfigError(f"the value of {name} is invalid: got {number}, expected 0 or more: a counter never falls")
    return number


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:80]}..."
