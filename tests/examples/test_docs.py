"""Every snippet of docs/supervision.md is a program that runs; every link in docs/ leads somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "supervision.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
#: What a snippet prints, by a word that only it has.
PRINTED = {
    'hung up")\n        return': (
        "sent 1\nsent 2\njob 3 failed: error: ConnectionError: the mail server hung up\nsent 4\nsent 5"
    ),
    'rest_for_one", intensity=5': "([1, 2, 4, 5], [3], [])",
    "class Counter(": "105",
    "class Session(": "ada@example",
    "class Room(": "hello to you",
    "slow_square": "1024\nok 0\nok 1\nok 4\nok 9",
    "class Boss(": "job 1 done by 127.0.0.2\nkilled\nworker ended: killed",
    "class Shard(": "[0, 1, 2, 0, ",
    "class Connection(": "rows for select 1",
}


@pytest.mark.parametrize("word", PRINTED)
def test_a_snippet_of_the_docs_runs_and_prints_what_it_says(word, tmp_path):
    (snippet,) = [each for each in SNIPPETS if word in each]
    (tmp_path / "snippet.py").write_text(snippet)
    done = subprocess.run([sys.executable, "snippet.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert PRINTED[word] in done.stdout
    assert done.stderr == ""


def test_no_snippet_is_left_out():
    assert len(SNIPPETS) == len(PRINTED)


def test_links_lead_somewhere():
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_heading_that_is_linked_is_there():
    headings = {re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
                for line in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)}  # fmt: skip
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= headings
