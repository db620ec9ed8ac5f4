"""What can be done with a parameter that a provider does not take as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: No value is this one.
NOTHING: Any = object()


@dataclass(frozen=True, slots=True)
class Rename:
    """Send it under another name; a value that stands there already gives way."""

    to: str


@dataclass(frozen=True, slots=True)
class Clamp:
    """Send the nearest value that is taken, and say so once."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Drop:
    """Leave it out, and say so once.

    Args:
        default: the value that the provider takes anyway: leaving that out changes nothing and is not said.
        given: only where this other parameter is given.
        unless: not where this other parameter has this value.
    """

    default: Any = NOTHING
    given: str | None = None
    unless: tuple[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Choose:
    """Send another word for some values, and say so once."""

    words: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Translate:
    """Send what the function makes of it: fields by name, objects merged into those that are there.

    The function gives None where the provider has no words for the value: it is dropped, which is said once.
    """

    write: Callable[[Any], dict[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuse the call: without the parameter the answer would be another thing than what was asked for."""


Action = Rename | Clamp | Drop | Choose | Translate | Refuse


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table.

    Args:
        param: the parameter, by our name.
        action: what is done with it.
        models: which models it is for, found anywhere in the name; None: all of the provider's.
        why: ends the sentence "x is not sent: ...".
    """

    param: str
    action: Action
    models: re.Pattern[str] | None = None
    why: str = "there is no such parameter"
