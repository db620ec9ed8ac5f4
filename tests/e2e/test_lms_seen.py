"""What people see of LMs and of their owners on a node that works, and second requests through a whole node."""

import contextlib
import http.server
import json
import re
import select
import socket
import threading
import time

import pytest
from click.testing import CliRunner
from e2e_kit import Background, metric, triage, until
from prices_kit import INPUT, OUTPUT, at_prices

import dspex_actors as dspex
from dspex_actors.cli.main import dspex as command
from dspex_actors.lm.worker.hedging import SHARE

ANSWER = json.dumps(
    {
        "model": "x",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "[[ ## team ## ]]\nbilling\n\n[[ ## completed ## ]]"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }
).encode()
#: What an answer costs, in dollars.
EACH = (100 * INPUT + 10 * OUTPUT) / 1e6


class Slow:
    """Answers at once; but the first request with "slow" in it after so many seconds, unless it is given up before."""

    def __init__(self, seconds):
        self.seconds, self.requests, self.held, self.given_up = seconds, 0, 0, 0
        self.go_on = threading.Event()
        self._seen, self._lock = set(), threading.Lock()
        mine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not mine.is_wanted(body, self.connection):
                    self.close_connection = True
                    return
                with contextlib.suppress(ConnectionError):  # it has just been given up
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(ANSWER)))
                    self.end_headers()
                    self.wfile.write(ANSWER)

            def log_message(self, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def is_wanted(self, body, connection):
        with self._lock:
            self.requests += 1
            is_slow = b"slow" in body and body not in self._seen
            self._seen.add(body)
            self.held += is_slow
        if not is_slow:
            return True
        with socket.socket(fileno=socket.dup(connection.fileno())) as same:
            gone, until_then = False, time.monotonic() + self.seconds
            while not (gone or self.go_on.is_set() or time.monotonic() > until_then):
                ready, _, _ = select.select([same], [], [], 0.02)
                gone = bool(ready) and same.recv(1, socket.MSG_PEEK) == b""
        with self._lock:
            self.held -= 1
            self.given_up += gone
        return not gone

    def close(self):
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def slow():
    made = []

    def make(seconds):
        made.append(Slow(seconds))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seen")
    with at_prices(folder, "openai/x"), dspex.connect(workers=2) as system:
        yield system


@pytest.fixture(autouse=True)
def at_home(system, monkeypatch):
    monkeypatch.setenv("DSPEX_HOME", str(system.data_dir))


def run(*arguments):
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False)


def lms(tree):
    found = [tree["lm"]] if "lm" in tree else []
    return found + [one for child in tree["children"] for one in lms(child)]


def test_the_tree_says_of_each_lm_what_is_in_flight_used_open_and_paid(system, slow):
    tree = json.loads(run("tree", "--json").output)
    assert lms(tree) == []
    assert "in flight" not in run("tree").output
    server = slow(30.0)
    lm = dspex.LM("openai/x", base_url=server.url, rpd=10, cache=False)
    assert [lm(f"quick {number}").cost for number in range(2)] == [pytest.approx(EACH)] * 2
    waits = [Background(lm, f"slow {number}") for number in range(3)]
    until(lambda: server.held == 3)
    [told] = lms(json.loads(run("tree", "--json").output))
    assert (told["model"], told["in_flight"], told["circuit"]) == ("openai/x", 3, "closed")
    assert told["limits"] == {"rpd": 10}
    assert 0.5 <= told["used"]["rpd"] < 1.0  # with leases that are kept for a moment
    assert told["cost"] == pytest.approx(2 * EACH)
    page = run("tree").output
    row = next(line for line in page.splitlines() if line.startswith("openai/x"))
    assert re.search(r" 3 +0 +rpd [5-9]0% +closed +\$0\.004$", row)
    server.go_on.set()
    assert all("billing" in each.result().text for each in waits)


def test_owners_are_listed_as_services_and_nobody_who_is_not_there(system):
    dspex.configure_protection("seen", pool=2)
    dspex.execute_protected("seen", lambda: None)
    rows = {(row["namespace"], row["name"]): row for row in json.loads(run("services", "--json").output)}
    assert rows["node", "protection"]["state"] in ("ok", "slow")
    assert ("cache", "manager") not in rows


@pytest.mark.soak
def test_a_second_request_wins_where_the_first_is_late_and_the_late_one_is_given_up(system, slow):
    server = slow(1.5)
    lm = dspex.LM("openai/x", base_url=server.url, hedge=True, cache=False)
    count = 400
    examples = [
        {"ticket": f"{'slow' if number % 25 == 24 else 'quick'} {number}", "team": "billing"} for number in range(count)
    ]
    result = dspex.evaluate(triage(), examples, metric(), lm=lm, max_in_flight=8, display_progress=False, run_id="h")
    assert (result.succeeded, result.failed) == (count, 0)
    rows = list(system.journal.iter_attempts("h"))
    hedges = len(rows) - count
    assert 1 <= hedges <= SHARE * count
    assert count <= server.requests <= len(rows)  # a second one may be given up before the server has seen it
    # Who loses is cancelled; but two answers may come at the same moment, and then both are paid, and both are noted.
    outcomes = [row.outcome for row in rows]
    answered = outcomes.count("answered")
    assert count <= answered <= count + hedges
    assert outcomes.count("cancelled") == len(rows) - answered
    assert all(row.cost == pytest.approx(EACH) for row in rows if row.outcome == "answered")
    until(lambda: server.given_up >= 1)
    assert all(row.cost is None for row in rows if row.outcome == "cancelled")
    assert result.usage["output_total"] == answered * 10
    waited = [row.latency for row in rows if row.outcome == "answered"]
    assert sum(seconds > 1.5 for seconds in waited) <= count / 25 - server.given_up
