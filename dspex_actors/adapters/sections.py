"""The sections of the chat format: `[[ ## name ## ]]` on a line, then the value."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import Any

_END = "completed"
#: Closes an answer.
COMPLETED = f"[[ ## {_END} ## ]]"

_MARKER = re.compile(r"\[\[ ## (\w+) ## \]\]")
#: As models write it too: as a heading, an item of a list, in bold, without some of the blanks.
_BEFORE = r"(?:(?:#{1,6}|[-+*>]|\d+[.)])[ \t]+)?"
_ANYWHERE = re.compile(r"(?:\*\*|`)?\[\[ ?## ?(\w+) ?## ?\]\](?:\*\*|`)?")
_LOOSE = re.compile(_BEFORE + _ANYWHERE.pattern + ":?")


def in_any_case(outputs: Iterable[str], found: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the outputs that are found by their names: as they are written, or in another case, where it can be only
    one of both."""
    known = {name: found[name] for name in outputs if name in found}
    for name in outputs:
        if name not in known:
            alike = [key for key in found if str(key).casefold() == name.casefold()]
            if len(alike) == 1 and sum(other.casefold() == name.casefold() for other in outputs) == 1:
                known[name] = found[alike[0]]
    return known


def sections(outputs: Collection[str], text: str, is_loose: bool = False) -> dict[str, str]:
    """Return the outputs' sections; a marker counts at the start of a line.

    Args:
        outputs: the names that are looked for.
        text: the LM's.
        is_loose: markers may be in bold, headings, items of a list, in another case, or without blanks.
    """
    raw: dict[str, str] = {}
    name = ""
    lines: list[str] = []
    known = _known(outputs) if is_loose else {}
    pattern, sign = (_LOOSE, "##") if is_loose else (_MARKER, "[[ ## ")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Not splitlines: U+2028 and form feeds belong to the value.
    for line in text.split("\n"):
        if sign in line:
            bare = line.strip()
            marker = pattern.match(bare)
            if marker is not None:
                if name in outputs and name not in raw:
                    raw[name] = "\n".join(lines).strip()
                name = known.get(marker[1].casefold(), marker[1])
                rest = bare[marker.end() :].strip()
                lines = [rest] if rest else []
                continue
        lines.append(line)
    if name in outputs and name not in raw:
        # No closing marker on a line of its own: it may stand behind the last value.
        raw[name] = "\n".join(lines).strip().removesuffix(COMPLETED).rstrip()
    return raw


def sections_anywhere(outputs: Collection[str], text: str) -> dict[str, str]:
    """Return the outputs' sections of an answer that runs them together."""
    raw: dict[str, str] = {}
    known = {**_known(outputs), **{name: name for name in outputs}}
    found = [
        (name, marker)
        for marker in _ANYWHERE.finditer(text)
        if (name := known.get(marker[1]) or known.get(marker[1].casefold()))
    ]
    ends = [*(marker.start() for _, marker in found[1:]), len(text)]
    for (name, marker), end in zip(found, ends, strict=False):
        if name in outputs:
            raw.setdefault(name, text[marker.end() : end].strip())
    return raw


def _known(outputs: Collection[str]) -> dict[str, str]:
    """Return the names that markers in any case can mean, by the folded one; not those that differ in case only."""
    known: dict[str, str] = {_END: _END}
    for name in outputs:
        known[name.casefold()] = "" if name.casefold() in known and name.casefold() != _END else name
    return {folded: name for folded, name in known.items() if name}


def whole_sections(outputs: Collection[str], lacks: Callable[[Container[str]], bool], text: str) -> dict[str, str]:
    """Return the outputs' sections of an answer that has all of them; empty: it has not."""
    found = sections(outputs, text) if "[[ ## " in text else {}
    return {} if lacks(found) else found
