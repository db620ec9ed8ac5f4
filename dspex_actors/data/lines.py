"""Lines of text files, gzipped or not, one at a time, with the file's own line numbers."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from dspex_actors.errors import ConfigError

#: Longer lines are refused: a file that is one huge line is not line-by-line data.
MAX_LINE = 64 << 20
_BOM = b"\xef\xbb\xbf"


def read_lines(path: Path, *, zipped: bool) -> Iterator[tuple[int, bytes]]:
    r"""Give (line number from 1, line with its line feed) of a file.

    Lines end at \n and nowhere else: U+2028 and its like may stand inside JSON text. A byte order mark is
    taken off.

    Raises:
        ConfigError: the file is not there, cut short, in another encoding, or a line is longer than MAX_LINE.
    """
    number = 0
    try:
        with cast("IO[bytes]", gzip.open(path, "rb") if zipped else path.open("rb")) as file:
            while line := file.readline(MAX_LINE):
                number += 1
                if number == 1:
                    line = _without_bom(path, line)
                if len(line) == MAX_LINE and not line.endswith(b"\n"):
                    what = f"longer than {MAX_LINE >> 20} MB; expected one example per line"
                    raise ConfigError(f"{path.name} line {number:,}: {what}")
                yield number, line
    except (EOFError, zlib.error) as error:
        raise ConfigError(
            f"{path.name} is cut short or damaged after line {number:,} ({error}): copy or make it again"
        ) from error
    except gzip.BadGzipFile as error:
        raise ConfigError(f"{path.name} ends in .gz but is not gzip ({error}): rename or compress it") from error
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path} (looked in {Path.cwd()})") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; expected a .jsonl or .csv file") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error


def _without_bom(path: Path, line: bytes) -> bytes:
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{path.name} is UTF-16; expected UTF-8: convert it with `iconv -f UTF-16 -t UTF-8`")
    return line.removeprefix(_BOM)
