"""Every snippet of these pages is a program that runs; every link in docs/ leads somewhere."""

import re
import sys
from pathlib import Path

import pytest
import warm

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("supervision.md", "foundation.md", "lm.md", "cluster.md", "programs.md", "optimisers.md", "metrics.md")
TEXT = "\n".join((DOCS / name).read_text() for name in PAGES)
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
#: What a snippet prints, by a word that only it has.
PRINTED = {
    "plan = yield Ask(": "2\n2\n",
    "def population(": "300,000\n[\"Execution error in population: KeyError: 'Gratz'\", 300000, 'Completed.']\n",
    "def is_prime(": "25 25\n",
    "import socket; socket.socket()": "43\nrefused True\nrefused True\nrefused True\n",
    "same_dog = ": (
        "eyes has looked {'image': 'eyes', 'audio': 'ears', 'fusion': 'eyes'}\n"
        "{'image': 'eyes has looked', 'audio': 'ears has looked'}\n"
    ),
    "adapter=dspex.XMLAdapter()": "['red', 'blue']\n",
    "KNOWN = {": (
        "In Zavrazhye. [('Who directed Solaris?', 'Tarkovsky'), ('Where was Tarkovsky born?', 'in Zavrazhye')]\n"
    ),
    "system.subscribe_nodes(": "alive full {}\n",
    'system.state("rollout")': "accepted\nrejected\n",
    "class Editor(": "A TEXT ON BEES ['editor', 'writer']",
    "def with_queue": "billing@support.example 1 True\n['missing', 'mistyped', 'unknown']",
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
    "def find(question)": ("answer/find question-7 {'customer': 7, 'source': 'index'}\n['began'] ['search']"),
    "telemetry.counter(": "2 1\n['lm.request.cost', 'lm.request.duration', 'lm.request.tokens']",
    "class ToolUsed(": "search 12.5\nToolUsed → ['found']",
    "config.subscribe": (
        "120.0 update version 1 - a number, above 0, or none\n"
        "optimisation.copro.depth is invalid: got 0, expected a whole number, 1 to 100\n"
        "providers.openai.rpm None 120.0\nproviders.openai.rpm 120.0 None\n"
    ),
    "class Search(": "tools search results for colours\n[('search', 'ok')]\n1 ['embedded']\n",
    "dspex.Workflow(": "later ['completed', 'completed', 'completed', 'fallback']\n",
    "def down(": "42 small [('large', ConnectionError('no route'))]\n",
    "PNG = b": (
        "user ['text', 'image_url', 'text']\nassistant text\nuser ['text', 'image_url', 'text', 'image_url', 'text']\n"
        "Image(url=data:image/png;base64,<IMAGE_BASE_64_ENCODED(12)>)\nImage is invalid: got 'cat.png', expected an"
    ),
    "tool = dspex.Tool(search)": (
        "{'query': {'type': 'string'}, 'limit': {'type': 'integer', 'default': 3}}\n[['bees 0', 'bees 1']]\n"
        "Arg limit is invalid: 'two' is not of type 'integer'\n"
    ),
    "isolated_system(lm)": "4 3 [[1, 2]] 1\n",
    "reply.reasoning": "It is 51. 17 times 3. ()\n{'type': 'text', 'text': 'It is 51.'}\nTrue True\n",
    "fish swim": "",
    "def index():": "3 ['index'] 1\n1 0\n",
    "budget=5.0,  # US dollars": "2 0.0\nteam=search 2 0 0.0 0\n",
    'batch={"poll"': "100.0 20\n",
    "class Parrot(": "To get| to the| other side.||\nTo get to the other side.\n",
    "class Calculator(": "It is 51. 3\n",
    "rps=10, rpm=500": "10.0 500.0 200000.0\n",
    '"growth": 2.0': "10.0 False\n",
    "def fails()": "['about bees']\nCircuitOpen 10\n",
    "rpm=6000": "20 0\n",
    "num_candidate_programs=2": "100.0\n",
    "it is longer than 1,000 characters": "ticket -> summary, team, urgency\n5 is now. 1 is some day.\n",
    "dspex.PromptTemplate.create(": "('ticket',) ('role',)\nYou sort tickets. Be kind.\n",
    'program.save(f"{folder}/state.json")': "True\n",
    "class Shout(": "HELLO\nhello 2\n[(1, True), (2, False)] 2\n",
    "dspex.track_usage() as usage": "What do bees make?\n",
    'run_id="tonight"': "finished 100.0 3\n['tonight']\n",
    "dspex.MIPROv2(": " 7\n",
    "dspex.SIMBA(": " programs compared\n",
    "max_metric_calls=12": "True\n",
    "dspex.BootstrapFinetune(": "<8 conversations to fine-tune with, as openai> [PosixPath('data.jsonl')]\n",
    '"right": prediction.team': (
        "50.0 {'right': 50.0, 'short': 100.0} (0.0, 100.0)\n{'right': 1.0, 'short': 1.0} One word, please.\n"
    ),
    "result.nodes.items()": "embedded 20 0 20\n",
    "context_fallbacks=": ("['anthropic/claude-haiku-4-5', 'gemini/gemini-2.5-flash']\nfallbacks is a loop\n"),
}


#: They optimise, for seconds each.
LONG = {"dspex.MIPROv2(", "dspex.SIMBA(", "max_metric_calls=12"}


@pytest.mark.parametrize(
    "word", [pytest.param(word, marks=pytest.mark.soak) if word in LONG else word for word in PRINTED]
)
def test_a_snippet_of_the_docs_runs_and_prints_what_it_says(word, tmp_path):
    (snippet,) = [each for each in SNIPPETS if word in each]
    (tmp_path / "snippet.py").write_text(snippet)
    done = warm.run([sys.executable, "snippet.py"], cwd=tmp_path, capture_output=True, text=True, timeout=170)
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
