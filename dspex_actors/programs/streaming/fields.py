r"""Finds the text of one output field in an answer that comes in pieces. Pure.

However the answer is cut, the pieces of the field's text add up to what the adapter's `parse` reads from all of it.
What may still turn out to belong to a marker, or to the blanks around a value, is held back until that is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Protocol

#: A marker; models that write Markdown put it in bold or in code.
_MARKER = re.compile(r"(\*\*|`)?\[\[ ## (\w+) ## \]\](?(1)(?:\*\*|`)?)")
_NAME = 200  # characters of a marker's name at most: what is longer is held back by nobody
#: What may become a marker with the next characters.
_BEGUN = re.compile(
    r"(?:(?:\*\*|`)?\[(?:\[(?: (?:#(?:#(?: (?:\w{1,200}(?: (?:#(?:#(?: (?:\](?:\]\*?)?)?)?)?)?)?)?)?)?)?)?)?|\*\*?|`)\Z"
)
_COMPLETED = "completed"
_THINK, _THOUGHT = "<think>", "</think>"


class Finder(Protocol):
    """Finds one field."""

    #: The field has begun, and has ended.
    has_begun: bool
    has_ended: bool

    def feed(self, text: str) -> str:
        """Take in what comes next; return what of the field's text is certain now."""
        ...

    def end(self) -> str:
        """Return what is left of the field's text: nothing more comes."""
        ...


class _Spoken:
    """Leaves out what a model thinks aloud, in `<think>`, before it answers."""

    def __init__(self) -> None:
        self._held: str | None = ""

    def feed(self, text: str) -> str:
        if self._held is None:
            return text
        self._held += text
        begun = self._held.lstrip()
        if _THINK.startswith(begun[: len(_THINK)]) and len(begun) < len(_THINK):
            return ""
        if begun.startswith(_THINK):
            _, end, text = self._held.partition(_THOUGHT)
            if not end:
                return ""
        else:
            text = self._held
        self._held = None
        return text

    def end(self) -> str:
        """Return what was held: thoughts without an end are an answer."""
        held, self._held = self._held, None
        return held or ""


class ChatFinder:
    """Finds a field between ChatAdapter's markers.

    A marker of a field that the signature has, or the closing one, counts wherever it stands; one of any other name at
    the start of a line only. Of two sections of the field the first counts.

    Args:
        field: its name.
        outputs: the names of all output fields.
    """

    def __init__(self, field: str, outputs: Iterable[str] = ()) -> None:
        """Begin before the answer."""
        self.has_begun = self.has_ended = False
        self._field = field
        self._known = {field, _COMPLETED, *outputs}
        self._spoken = _Spoken()
        self._carriage = ""
        #: What is not decided: it may be, or hold, a marker.
        self._undecided = ""
        #: Only blanks have come on this line.
        self._line_is_blank = True
        #: Blanks that belong to the value if more text comes.
        self._blanks = ""
        self._has_text = False
        #: The value is still on its marker's line, whose end is stripped.
        self._on_marker_line = False

    def feed(self, text: str) -> str:
        """Take in what comes next."""
        return "" if self.has_ended else self._read(self._spoken.feed(text), at_end=False)

    def end(self) -> str:
        """Take in that nothing more comes."""
        if self.has_ended:
            return ""
        found = self._read(self._spoken.end() + self._carriage, at_end=True)
        self.has_ended = True
        return found

    def _read(self, text: str, at_end: bool) -> str:
        if "\r" in text or self._carriage:
            text = self._carriage + text
            self._carriage = ""
            if text.endswith("\r") and not at_end:
                text, self._carriage = text[:-1], "\r"
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        undecided = self._undecided + text
        found = ""
        while not self.has_ended:
            marker = _MARKER.search(undecided)
            if marker is None:
                break
            if marker[1] and marker[0].endswith("]") and undecided[marker.end() :] in ("", "*") and not at_end:
                break  # the rest of its bold type may come
            counts = marker[2] in self._known or self._stands_first(undecided[: marker.start()], marker[0])
            cut = marker.start() if counts else marker.end()
            found += self._text(undecided[:cut])
            undecided = undecided[marker.end() :]
            if counts:
                self._marked(marker[2])
        else:
            return found
        held = len(undecided) if at_end else self._decided(undecided)
        self._undecided = undecided[held:]
        return found + self._text(undecided[:held])

    def _decided(self, text: str) -> int:
        """Return how much of a text is certainly no part of a marker that counts."""
        marker = _MARKER.search(text)
        if marker is not None:
            return marker.start()
        begun = _BEGUN.search(text, max(0, len(text) - _NAME - 32))
        return begun.start() if begun is not None else len(text)

    def _stands_first(self, before: str, marker: str) -> bool:
        """Tell whether a marker is the first on its line, and bare."""
        line = before.rpartition("\n")
        is_blank = not line[2].strip() and (self._line_is_blank or bool(line[1]))
        return is_blank and marker.startswith("[[")

    def _marked(self, name: str) -> None:
        if self.has_begun:
            self.has_ended = True
        elif name == self._field:
            self.has_begun = True
            self._on_marker_line = True
        self._line_is_blank = False

    def _text(self, text: str) -> str:
        """Take in text that is no marker; return what of it is the value's."""
        if not text:
            return ""
        line = text.rpartition("\n")
        self._line_is_blank = not line[2].strip() and (self._line_is_blank or bool(line[1]))
        if not self.has_begun or self.has_ended:
            return ""
        text = self._blanks + text
        self._blanks = ""
        if not self._has_text:
            start = text.lstrip()
            if self._on_marker_line and "\n" in text[: len(text) - len(start)]:
                self._on_marker_line = False
            text = start
        if self._on_marker_line:
            first, line_end, rest = text.partition("\n")
            if line_end:
                text = f"{first.rstrip()}\n{rest}" if first.strip() or self._has_text else text
                self._on_marker_line = False
        value = text.rstrip()
        self._blanks = text[len(value) :]
        self._has_text = self._has_text or bool(value)
        return value


class JSONFinder:
    """Finds a field of the first JSON object of an answer.

    Of a text the characters that it stands for are given; of any other value its JSON, as it is written.

    Args:
        field: its name.
    """

    def __init__(self, field: str) -> None:
        """Begin before the answer."""
        self.has_begun = self.has_ended = False
        self._field = field
        self._spoken = _Spoken()
        self._state = self._before
        self._depth = 0
        #: What has come of a text or an escape that has not ended.
        self._held: list[str] = []
        self._key = ""
        self._in_text = self._escaped = self._is_text = False
        self._decoder = _Escapes()

    def feed(self, text: str) -> str:
        """Take in what comes next."""
        return self._read(self._spoken.feed(text))

    def end(self) -> str:
        """Take in that nothing more comes."""
        found = self._read(self._spoken.end())
        if self.has_begun and not self.has_ended and not self._is_text:
            found = found.rstrip()
        self.has_ended = True
        return found

    def _read(self, text: str) -> str:
        found: list[str] = []
        at = 0
        while at < len(text) and not self.has_ended:
            at = self._state(text, at, found)
        return "".join(found)

    # Each takes in some of the text from a place on, and returns the place behind it.

    def _before(self, text: str, at: int, found: list[str]) -> int:
        start = text.find("{", at)
        if start < 0:
            return len(text)
        self._state = self._between
        return start + 1

    def _between(self, text: str, at: int, found: list[str]) -> int:
        """Look for the next key of the object, or for its end."""
        char = text[at]
        if char == '"':
            self._held.clear()
            self._state = self._in_key
        elif char == "}":
            self.has_ended = True
        return at + 1

    def _in_key(self, text: str, at: int, found: list[str]) -> int:
        char = text[at]
        if self._escaped:
            self._escaped = False
        elif char == "\\":
            self._escaped = True
        elif char == '"':
            self._key = _unquoted("".join(self._held))
            self._state = self._to_value
            return at + 1
        self._held.append(char)
        return at + 1

    def _to_value(self, text: str, at: int, found: list[str]) -> int:
        """Look for the first character of the key's value."""
        char = text[at]
        if char == ":" or char.isspace():
            return at + 1
        is_field = self._key == self._field
        self._depth = 0
        if is_field:
            self.has_begun = True
            if char == '"':
                self._is_text = True
                self._state = self._in_value_text
                return at + 1
        self._state = self._in_value if is_field else self._beside
        self._held.clear()
        return at

    def _in_value_text(self, text: str, at: int, found: list[str]) -> int:
        given, at, ended = self._decoder.feed(text, at)
        found.append(given)
        self.has_ended = ended
        return at

    def _in_value(self, text: str, at: int, found: list[str]) -> int:
        """Take in a value that is no text, up to the comma or bracket behind it, without the blanks before these."""
        char = text[at]
        ended = self._scan(char)
        if ended:
            self._held.clear()
            self.has_ended = True
            return at + 1
        if char.isspace() and not self._in_text and not self._depth:
            self._held.append(char)
        else:
            found.extend(self._held)
            self._held.clear()
            found.append(char)
        return at + 1

    def _beside(self, text: str, at: int, found: list[str]) -> int:
        """Pass over the value of another key."""
        char = text[at]
        if self._scan(char):
            self._state = self._between
            return at if char == "}" else at + 1
        return at + 1

    def _scan(self, char: str) -> bool:
        """Follow texts and brackets of a value; tell whether this character is behind it."""
        if self._in_text:
            if self._escaped:
                self._escaped = False
            elif char == "\\":
                self._escaped = True
            elif char == '"':
                self._in_text = False
        elif char == '"':
            self._in_text = True
        elif char in "{[":
            self._depth += 1
        elif char in "}]":
            if not self._depth:
                return True
            self._depth -= 1
        elif char == "," and not self._depth:
            return True
        return False


class _Escapes:
    """Reads the inside of a JSON text that comes in pieces."""

    def __init__(self) -> None:
        self._escape = ""
        #: The first half of a pair, which waits for the second.
        self._high = ""

    def feed(self, text: str, at: int) -> tuple[str, int, bool]:
        """Return the characters from a place on, the place behind them, and whether the text ends there."""
        found: list[str] = []
        while at < len(text):
            if self._escape:
                self._escape += text[at]
                at += 1
                if len(self._escape) < (6 if self._escape[1] == "u" else 2):
                    continue
                found.append(self._joined(_unquoted(self._escape)))
                self._escape = ""
                continue
            quote, slash = text.find('"', at), text.find("\\", at)
            end = min(place if place >= 0 else len(text) for place in (quote, slash))
            if end > at:
                found.append(self._alone() + text[at:end])
            at = end
            if at < len(text):
                at += 1
                if end == quote:
                    return "".join(found) + self._alone(), at, True
                self._escape = "\\"
        return "".join(found), at, False

    def _joined(self, char: str) -> str:
        if "\ud800" <= char <= "\udbff":
            alone, self._high = self._alone(), char
            return alone
        if "\udc00" <= char <= "\udfff" and self._high:
            pair, self._high = self._high + char, ""
            return pair.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        return self._alone() + char

    def _alone(self) -> str:
        alone, self._high = self._high, ""
        return alone


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text
