"""An event as it is sent and stored: plain values, its own fields as JSON text."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.brief import HIDDEN, is_secret
from dspex_actors.foundation.checks import is_whole
from dspex_actors.foundation.codec import to_plain
from dspex_actors.foundation.events.event import COMMON, Event, class_of
from dspex_actors.foundation.secrets import scrub_data

#: An event whose fields are more than this, in bytes of JSON, is refused.
MAX_BYTES = 256 << 10
#: Ids, types and the names of nodes and actors have so many characters at most.
MAX_NAME = 200
#: The largest version of a class: what every store can hold.
MAX_VERSION = (1 << 31) - 1
#: Seconds from 1970 to what no calendar of Python's has.
YEAR_10000 = 253_402_300_800
_NAMES = ("id", "type", "correlation_id", "parent_id", "node", "actor")
_OWN = frozenset(COMMON) - {"data"}


class Record(NamedTuple):
    """An event, column by column.

    Args:
        id, type, at, correlation_id, parent_id, node, actor: as an `Event` has them.
        version: of the fields in `data`.
        data: the fields that its class adds and what it has as `data`, as one JSON object.
    """

    id: str
    type: str
    version: int
    at: float
    correlation_id: str | None
    parent_id: str | None
    node: str | None
    actor: str | None
    data: str


def to_record(event: Event) -> Record:
    """Return an event as it is stored, without keys.

    Raises:
        ConfigError: it cannot be stored: a field that is no JSON data, an id that is no text, or more than 256 KB;
            names the type and the field.
    """
    if not isinstance(event, Event):
        raise ConfigError(f"the event is invalid: got {event!r:.100}, expected a dspex.Event")
    for name in _NAMES:
        value = getattr(event, name)
        if value is None and name not in ("id", "type"):
            continue
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME or not value.isprintable():
            raise _refused(event, name, f"got {value!r:.100}, expected 1 to {MAX_NAME} printable characters")
    # Milliseconds, which others count in, are refused: no calendar has a day for them.
    if isinstance(event.at, bool) or not isinstance(event.at, (int, float)) or not 0 <= event.at < YEAR_10000:
        raise _refused(event, "at", f"got {event.at!r:.100}, expected seconds since 1970")
    version = event.schema_version
    if not is_whole(version, 0) or version > MAX_VERSION:
        raise _refused(event, "version", f"got {version!r:.100}, expected a whole number, 0 or more")
    text = _scrubbed(_json(event, _fields(event)))
    if len(text) > MAX_BYTES or (not text.isascii() and len(text.encode()) > MAX_BYTES):
        largest = max(_fields(event).items(), key=lambda item: len(str(item[1])))[0]
        raise _refused(
            event, largest, f"the event has {len(text):,} characters of data, expected at most {MAX_BYTES >> 10} KB"
        )
    return Record(
        event.id,
        event.type,
        version,
        float(event.at),
        event.correlation_id,
        event.parent_id,
        event.node,
        event.actor,
        text,
    )


def to_event(record: Record) -> Event:
    """Return the event of a record: of its class where that is known, is of this version and takes the fields."""
    cls = class_of(record.type)
    common = {name: getattr(record, name) for name in _OWN}
    data = json.loads(record.data)
    if cls is not None and record.version <= cls.version:
        known = cls.model_fields.keys() - COMMON
        mine = {name: value for name, value in data.items() if name in known}
        rest = {name: value for name, value in data.items() if name not in known}
        try:
            # As JSON: a strict class takes a date from text only there.
            return cls.model_validate_json(json.dumps(common | mine | {"data": rest}))
        except (ValidationError, ValueError):
            pass
    event = Event.model_validate(common | {"data": data})
    event._stored_version = record.version
    return event


def to_dict(record: Record) -> dict[str, Any]:
    """Return a record as it is exported: the columns by name, `data` as an object."""
    return record._asdict() | {"data": json.loads(record.data)}


def _fields(event: Event) -> dict[str, Any]:
    own = type(event).model_fields.keys() - _OWN
    try:
        dumped: dict[str, Any] = event.model_dump(mode="json", include=own)
    except (PydanticSerializationError, RecursionError, ValueError, TypeError) as error:
        raise _refused(event, _culprit(event, own), f"expected JSON data ({error})") from None
    data = dumped.pop("data")
    if not isinstance(data, dict):
        raise _refused(event, "data", f"got {data!r:.100}, expected a mapping")
    if twice := dumped.keys() & data.keys():
        raise _refused(event, f"data[{min(twice)!r}]", "got the name of a field of the class, expected another one")
    return {**data, **dumped}


def _culprit(event: Event, names: set[str]) -> str:
    """Return the first field that cannot be dumped."""
    for name in sorted(names):
        try:
            event.model_dump(mode="json", include={name})
        except Exception:
            return name
    return "data"


def _json(event: Event, fields: dict[str, Any]) -> str:
    try:
        # What is not finite has no number in JSON; classes read it back from text.
        return orjson.dumps(_finite(fields), option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError, RecursionError):
        pass  # a number of more than 64 bits, half of a surrogate pair, very deep
    try:
        return json.dumps(to_plain(fields), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _refused(event, "data", f"expected JSON data ({error})") from None


def _finite(value: Any) -> Any:
    """Return a value with what is not finite as text, and without the texts that a name calls secret."""
    kind = type(value)
    if kind is float:
        return value if math.isfinite(value) else str(value)
    if kind is dict:
        return {
            key: HIDDEN if type(item) is str and type(key) is str and is_secret(key) else _finite(item)
            for key, item in value.items()
        }
    if kind is list:
        return [_finite(item) for item in value]
    return value


def _scrubbed(text: str) -> str:
    """Return JSON text without keys. Only its texts are touched: a key may be as short as a number's digits."""
    return text if scrub_data(text) == text else json.dumps(_without_keys(json.loads(text)))


def _without_keys(value: Any) -> Any:
    if isinstance(value, str):
        return scrub_data(value)
    if isinstance(value, dict):
        return {scrub_data(key): _without_keys(item) for key, item in value.items()}
    return [_without_keys(item) for item in value] if isinstance(value, list) else value


def _refused(event: Event, field: str, why: str) -> ConfigError:
    return ConfigError(f"the event {type(event).__name__} is invalid in {field}: {why}")
