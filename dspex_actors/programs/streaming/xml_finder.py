"""Finds the text of one output field in an answer of XML elements that comes in pieces. Pure."""

from __future__ import annotations

import re
from xml.sax.saxutils import unescape

#: What may become an entity with the next characters.
_BEGUN_ENTITY = re.compile(r"&[a-z]{0,4}\Z")
_ENTITIES = {"&quot;": '"', "&apos;": "'"}


class XMLFinder:
    """Finds what is between a field's tags, without the blanks around it.

    Args:
        field: its name.
    """

    def __init__(self, field: str) -> None:
        """Begin before the answer."""
        self.has_begun = self.has_ended = False
        self._opening, self._closing = f"<{field}>", f"</{field}>"
        self._held = ""
        self._blanks = ""
        self._has_text = False

    def feed(self, text: str) -> str:
        """Take in what comes next; return what of the field's text is certain now."""
        if self.has_ended:
            return ""
        self._held += text
        if not self.has_begun:
            before, opened, after = self._held.partition(self._opening)
            if not opened:
                self._held = before[-len(self._opening) :]
                return ""
            self.has_begun, self._held = True, after
        found, closed, _ = self._held.partition(self._closing)
        if closed:
            self.has_ended, self._held = True, ""
            return self._text(found)
        cut = len(found)
        for length in range(min(len(self._closing) - 1, cut), 0, -1):
            if found.endswith(self._closing[:length]):
                cut -= length
                break
        entity = _BEGUN_ENTITY.search(found, 0, cut)
        cut = entity.start() if entity else cut
        self._held = found[cut:]
        return self._text(found[:cut])

    def end(self) -> str:
        """Return what is left of the field's text: nothing more comes."""
        if self.has_ended or not self.has_begun:
            return ""
        self.has_ended = True
        return self._text(self._held)

    def _text(self, text: str) -> str:
        """Return text without entities, and without blanks that may turn out to be the last."""
        text = self._blanks + unescape(text, _ENTITIES)
        if not self._has_text:
            text = text.lstrip()
        bare = text.rstrip()
        self._has_text = self._has_text or bool(bare)
        self._blanks = text[len(bare) :]
        return bare
