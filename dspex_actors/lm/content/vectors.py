"""`Vectors`: what an embedding model answers with, as a part of its reply."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Vectors:
    """One vector for each text, in the order of the texts.

    Args:
        data: little-endian 32-bit floats, one vector after the other.
        dimensions: of each vector.
    """

    data: bytes
    dimensions: int

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"type": "vectors", "data": base64.b64encode(self.data).decode(), "dimensions": self.dimensions}

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Self:
        """Rebuild it from `to_plain`'s data."""
        return cls(base64.b64decode(data["data"]), int(data["dimensions"]))
