"""What nodes say to one another is written down beside its version: no change of it goes without another version."""

import importlib
import inspect
from dataclasses import fields
from pathlib import Path

from supervisors.terms import letters
from supervisors.wire import door_protocol, messages, values
from tests.house.imports import PACKAGES, sources

WRITTEN = Path(__file__).with_name("wire.txt")


def said():
    """Return a line for each thing that is said: parcels, typed values, operations of the door, messages by number."""
    for name, path in sources().items():
        if "@message(" in path.read_text():
            importlib.import_module(name)
    lines = [f"parcel {number}: {kind.__name__} {_shape(kind)}" for number, kind in enumerate(messages._KINDS)]
    lines += [f"value {number}: {kind.__name__} {_shape(kind)}" for kind, number in values._CODES.items()]
    operations = [value for name, value in inspect.getmembers(door_protocol) if name.isupper()]
    lines += [f"door: {operation}" for operation in operations]
    for number, letter in letters._by_number.items():
        if letter.cls.__module__.split(".")[0] in PACKAGES:
            lines.append(f"message {number}: {letter.cls.__name__} {letter.version} {_shape(letter.cls)}")
    return sorted(lines)


def _shape(kind):
    named = getattr(kind, "__dataclass_fields__", None)
    return " ".join(f.name for f in fields(kind)) if named else " ".join(getattr(kind, "_fields", ()))


def test_a_change_of_what_nodes_say_has_another_version_of_the_wire():
    version, *before = WRITTEN.read_text().splitlines()
    now = said()
    gone, new = sorted(set(before) - set(now)), sorted(set(now) - set(before))
    assert (gone, new, version) == ([], [], f"version {values.VERSION}"), (
        "what nodes say to one another has changed: raise VERSION in supervisors/wire/values.py, then "
        "`python -m tests.house.test_wire`"
    )


if __name__ == "__main__":
    WRITTEN.write_text("\n".join([f"version {values.VERSION}", *said()]) + "\n")
