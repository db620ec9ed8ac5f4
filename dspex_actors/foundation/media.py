"""Media by their bytes: what they are, whatever somebody calls them; and `data:` addresses, which hold their bytes."""

from __future__ import annotations

import base64
import binascii
import re

#: Media type by how the bytes begin.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"#!AMR", "audio/amr"),
    (b"\x1aE\xdf\xa3", "audio/webm"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
)
#: Of containers whose first word is the same for all: where the second one stands, and what it says.
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_FTYP = {
    b"avif": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
}
_HTML = re.compile(rb"\s*(?:<!doctype html|<html|<head|<body)", re.IGNORECASE)
_SVG = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*(?:<!DOCTYPE svg[^>]*>\s*)?<svg[\s>]", re.DOTALL)
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+")


class NoMedia(ValueError):
    """Bytes or an address are not what they are given as."""


def kind_of(data: bytes) -> str | None:
    """Return the media type that the bytes are of; None: not one that is known by its bytes."""
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12])
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return "audio/aiff"
    if data[4:8] == b"ftyp":
        return _FTYP.get(data[8:12], "video/mp4")
    if data[:2] == b"BM" and len(data) > 25:
        return "image/bmp"
    start = data[:1024]
    if _SVG.match(start):
        return "image/svg+xml"
    return "text/html" if _HTML.match(start) else None


def is_data_url(text: str) -> bool:
    """Tell whether an address holds its bytes."""
    return text[:5].lower() == "data:"


def split_data_url(text: str) -> tuple[str, str]:
    """Return the media type, in lower case, and the base64 text of a `data:TYPE;base64,...` address.

    Raises:
        NoMedia: it is broken; says how.
    """
    head, comma, data = text[5:].partition(",")
    kind, *options = (part.strip() for part in head.split(";"))
    if not comma:
        raise NoMedia("a data URL without a comma")
    if not _MEDIA_TYPE.fullmatch(kind):
        raise NoMedia(f"a data URL of no media type ({shortened(kind)})")
    if "base64" not in options:
        raise NoMedia("a data URL that is not base64")
    return kind.lower(), data


def decoded(data: str) -> bytes:
    """Return the bytes of a base64 text.

    Raises:
        NoMedia: it is none, or empty.
    """
    try:
        found = binascii.a2b_base64(data.encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeEncodeError):
        raise NoMedia("base64 that is broken or cut") from None
    if not found:
        raise NoMedia("no bytes at all")
    return found


def encoded(data: bytes) -> str:
    """Return bytes as base64 text."""
    return base64.b64encode(data).decode("ascii")


def shortened(value: object) -> str:
    """Return a value as a line of an error shows it: its text is short, whatever its size."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(value)} bytes that begin with {bytes(value[:8])!r}"
    text = repr(value[:100]) if isinstance(value, str) else repr(value)[:200]
    return text if len(text) <= 60 else f"{text[:59]}…"
