"""What media are made from here: addresses by their look, files by their bytes. Fetching stands in `fetching`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from dspex_actors.foundation.config_errors import ConfigValueError

#: Bytes of one file or answer at most: more than any provider takes.
MOST = 64 * 1024 * 1024


def is_address(text: str, schemes: tuple[str, ...] = ("http", "https")) -> bool:
    """Tell whether a text is an address of one of the schemes, with a host."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.netloc) and not any(char.isspace() for char in text)


def file_bytes(what: str, path: str | Path) -> bytes:
    """Return a file's bytes.

    Raises:
        ConfigValueError: there is no such file, it cannot be read, is empty or too large.
    """
    try:
        size = Path(path).stat().st_size
        problem = "a folder" if Path(path).is_dir() else "an empty file" if not size else ""
        if size > MOST:
            problem = f"{size} bytes, more than {MOST}"
        if not problem:
            return Path(path).read_bytes()
    except FileNotFoundError:
        problem = "no file: File not found"
    except (OSError, ValueError) as error:
        problem = f"a file that cannot be read: {getattr(error, 'strerror', None) or error}"
    raise ConfigValueError(f"{what} is invalid: {str(path)!r} is {problem}")
