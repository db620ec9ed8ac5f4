"""What the configuration actor is asked. It answers ("ok", value) or ("error", the error's record)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from supervisors import message


@message(72)
@dataclass(frozen=True, slots=True)
class Get:
    """What holds at a path: a value, or a section's as nested tables."""

    VERSION: ClassVar[int] = 1

    path: str


@message(73)
@dataclass(frozen=True, slots=True)
class Update:
    """Set a setting, or several of a section at once; answered by the version.

    Args:
        path: of the setting or section.
        value: what is to hold; a section's as nested tables.
    """

    VERSION: ClassVar[int] = 1

    path: str
    value: Any


@message(74)
@dataclass(frozen=True, slots=True)
class Reset:
    """Forget what was updated at or below a path; answered by the version."""

    VERSION: ClassVar[int] = 1

    path: str


@message(75)
@dataclass(frozen=True, slots=True)
class Explain:
    """Where the value of a setting comes from; of a section, of each of its settings."""

    VERSION: ClassVar[int] = 1

    path: str


@message(76)
@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed at or below a path since a version; answered when there is something.

    The answer is the version that is reached and the changes, each as (path, value, old, version).

    Args:
        prefix: of a setting or section.
        since: the version that is known; None: answered at once by the version, without changes.
    """

    VERSION: ClassVar[int] = 1

    prefix: str
    since: int | None
