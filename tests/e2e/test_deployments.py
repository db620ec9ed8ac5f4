"""LMs of one deployment share its budget: counted by the server that is asked."""

import asyncio
import http.server
import json
import threading
import time

import pytest
from e2e_kit import ANSWER, metric, tickets, triage, until

import dspex_actors as dspex
from dspex_actors.lm.control.client import client_name
from dspex_actors.names import CLIENTS

RPM = 1200  # twenty a second, and one second's worth at once
BODY = json.dumps(
    {
        "model": "x",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10},
    }
).encode()


class Counting(http.server.ThreadingHTTPServer):
    """Writes down when it was asked what, and answers."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def most_within(self, seconds):
        times = sorted(at for at, _ in self.asked)
        return max(sum(1 for other in times[place:] if other <= start + seconds) for place, start in enumerate(times))


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((time.monotonic(), body))
        status = 503 if body["model"] == "broken" else 200
        self.send_response(status)
        self.send_header("content-length", str(len(BODY)))
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *args):
        pass


@pytest.fixture
def counting():
    server = Counting()
    yield server
    server.shutdown()
    server.server_close()


def ask(*lms, times):
    async def all_of_them():
        return await asyncio.gather(*(lm.acall("hi") for _ in range(times) for lm in lms))

    return asyncio.run(all_of_them())


def clients(system):
    if system.node.whereis(CLIENTS) is None:
        return []  # no LM was asked
    return [child.id for child in system.node.which_children(CLIENTS) if child.id.startswith("client:")]


@pytest.mark.soak
def test_lms_that_differ_in_parameters_and_options_only_never_exceed_one_budget_together(counting, home):
    lm = dspex.LM("openai/x", base_url=counting.url, rpm=RPM, cache=False)
    with dspex.connect(lm=lm, home=home, workers=2) as system:
        ask(lm, lm.with_params(temperature=1.0), lm.copy(timeout=30.0, rollout_id=1), times=27)
        assert {body.get("temperature") for _, body in counting.asked} == {None, 1.0}
        assert not any("rollout_id" in body for _, body in counting.asked)
        assert len(counting.asked) == 81
        for seconds in (1.0, 2.0):
            assert counting.most_within(seconds) <= RPM / 60 * (seconds + 1.0) + 1
        assert clients(system) == [client_name(lm.deployment)]

        # Another one tells a smaller limit: it holds for all, and is told once.
        slow = lm.copy(rpm=600)
        slow("hi")
        ask(lm, slow, times=2)
        assert system.node.call(client_name(lm.deployment), "stats")["limits"]["rpm"] == 600
        logs = system.data_dir / "logs"
        told = until(lambda: [line for path in logs.iterdir() for line in _lines(path) if "different limits" in line])
        assert len(told) == 1


@pytest.mark.soak
def test_a_fallback_that_is_the_same_deployment_shares_it_and_another_one_has_its_own(counting, home):
    first = dspex.LM(
        "openai/broken",
        base_url=counting.url,
        deadline=1.0,
        temperature=0.5,
        fallbacks=[dspex.LM("openai/x", base_url=counting.url, max_tokens=5)],
    )
    with dspex.connect(lm=first, home=home, workers=1) as system:
        reply = first("hi")
        assert reply.text == ANSWER
        answered = counting.asked[-1][1]
        assert (answered["model"], answered.get("temperature")) == ("x", None)
        assert 5 in (answered.get("max_tokens"), answered.get("max_completion_tokens"))
        dspex.LM("openai/x", base_url=counting.url)("hi")
        assert len(clients(system)) == 2


class Parrot(dspex.BaseLM):
    """Says the same to everything, and fails at one ticket."""

    def forward(self, messages, **params):
        if "ticket 3" in messages[-1]["content"]:
            raise RuntimeError("no")
        return ANSWER


def test_an_lm_of_ones_own_travels_to_the_workers_and_its_calls_are_counted(home):
    program = triage()
    program.set_lm(Parrot("parrot"))
    with dspex.connect(home=home, workers=1) as system:
        result = dspex.evaluate(program, tickets(10), metric(), system=system, display_progress=False)
        assert (result.n, result.failed) == (10, 1)
        assert system.journal.get_run(result.run_id).asked == 10
        assert result.usage["estimated"]
        assert result.cost is None
        assert clients(system) == []


def _lines(path):
    return path.read_text(errors="replace").splitlines() if path.is_file() else []
