"""The cache through whole nodes: one request for equal calls on all workers, whatever is killed; what was asked before
costs nothing; what nobody can read is kept by nobody."""

import asyncio
import os
import signal
import threading

import pytest
from e2e_kit import ANSWER, LMServer, metric, tickets, triage, until

import dspex_actors as dspex
from dspex_actors.errors import AdapterParseError


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One data folder, and one node, for all tests here."""
    folder = tmp_path_factory.mktemp("cached") / "home"
    os.environ["DSPEX_HOME"] = str(folder)
    yield folder
    os.environ.pop("DSPEX_HOME", None)


@pytest.fixture(scope="module")
def system(home):
    with dspex.connect(home=home, workers=4) as one:
        yield one


@pytest.fixture
def lm_server():
    servers = []

    def make(*options):
        servers.append(LMServer(*options))
        return servers[-1]

    yield make
    for one in servers:
        one.close()


def at_once(lm, text, count):
    async def all_of_them():
        return await asyncio.gather(*(lm.acall(text) for _ in range(count)), return_exceptions=True)

    return asyncio.run(all_of_them())


def asked_by(system):
    return {name: system.node.call(name, "cache")["asked"] for name in map("worker-{}".format, range(1, 5))}


def test_equal_calls_on_all_workers_are_one_request(system, lm_server):
    server = lm_server("--latency-ms", 300)
    replies = at_once(server.lm(cache=True), "the same", 300)
    assert server.requests == 1
    assert {reply.text for reply in replies} == {replies[0].text}
    assert sum(reply.cached is None for reply in replies) == 1
    assert sum(reply.asked for reply in replies) == 1
    found = system.cache.stats()
    assert (found["asked"], found["memory"]["hits"] + found["disk"]["hits"]) == (1, 299)


def test_a_worker_that_is_killed_in_the_middle_costs_one_request_more(system, lm_server):
    server = lm_server("--latency-ms", 1500)
    lm = server.lm(cache=True)
    replies = []
    before = asked_by(system)
    asking = threading.Thread(target=lambda: replies.extend(at_once(lm, "killed", 80)))
    asking.start()
    until(lambda: server.stats()["in_flight"] == 1)
    # One worker has the claim, and asks; all the others wait for it.
    now = asked_by(system)
    (asks,) = [name for name in now if now[name] > before[name]]
    os.kill(system.node.pid(asks), signal.SIGKILL)
    asking.join(60)
    assert {getattr(reply, "text", reply) for reply in replies} == {replies[0].text}
    assert server.requests == 2


@pytest.mark.soak
def test_a_run_that_was_done_before_asks_nothing(system, lm_server):
    server = lm_server("--answer", ANSWER)
    lm = server.lm(cache=True)
    first = dspex.evaluate(triage(), tickets(60), metric(), lm=lm)
    again = dspex.evaluate(triage(), tickets(60), metric(), lm=lm)
    assert server.requests == 60
    assert (again.score, again.failed, again.cost) == (first.score, 0, 0.0)
    assert {row.cached for row in first.results} == {None}
    assert {row.cached for row in again.results} <= {"memory", "disk"}
    assert not again.usage

    def booked():
        rows = {row["run"]: (row["cached"], row["requests"]) for row in system.cost(by="run")["rows"]}
        return rows.get(again.run_id)

    until(lambda: booked() == (60, 0), what=lambda: f"booked: {booked()}")
    with dspex.context(cache=False):
        dspex.evaluate(triage(), tickets(60), metric(), lm=lm)
    assert server.requests == 120


def test_settings_travel_with_runs_and_with_calls(system, lm_server, tmp_path):
    server = lm_server("--answer", ANSWER)
    lm = server.lm(cache=True)
    before = dspex.settings.cache
    try:
        for tenant in ("a", "b", "a"):
            dspex.configure_cache(disk_cache_dir=tmp_path / "theirs", tenant=tenant)
            dspex.evaluate(triage(), tickets(5), metric(), lm=lm)
            lm("single")
        assert server.requests == 12
        assert system.cache.folder == tmp_path / "theirs"
        assert system.cache.stats()["disk"]["entries"] == 12
        assert system.cache.clear(tenant="a") == 6
        lm("single")
        assert server.requests == 13
    finally:
        dspex.settings.assign(cache=before)
    assert not (tmp_path / "theirs" / "answers.db").stat().st_mode & 0o077


def test_an_answer_that_nobody_can_read_is_asked_for_again(system, lm_server):
    server = lm_server("--answer", "no field at all")
    lm = server.lm(cache=True)
    for count in (2, 4):  # the adapter and its fallback
        with pytest.raises(AdapterParseError):
            triage()(ticket="unreadable", lm=lm)
        until(lambda count=count: server.requests == count)
    result = dspex.evaluate(triage(), tickets(3), metric(), lm=lm)
    assert result.failed == 3
    asked = server.requests
    dspex.evaluate(triage(), tickets(3), metric(), lm=lm)
    assert server.requests == 2 * asked - 4


def test_an_answer_that_only_the_fallback_can_read_is_kept_with_it(system, lm_server):
    server = lm_server("--answer", '{"team": "billing"}')
    lm = server.lm(cache=True)
    assert triage()(ticket="as JSON", lm=lm).team == "billing"
    asked = server.requests
    assert triage()(ticket="as JSON", lm=lm).team == "billing"
    assert server.requests == asked


@pytest.mark.soak
def test_two_nodes_with_one_folder_ask_once(system, lm_server, home):
    server = lm_server("--latency-ms", 500)
    lm = server.lm(cache=True)
    request = lm.request([{"role": "user", "content": "on two nodes"}], {})
    with dspex.connect(home=home, workers=2) as other:
        replies = []
        threads = [
            threading.Thread(target=lambda one=one: replies.append(one._backend.complete(request)))
            for one in [system, other] * 10
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert server.requests == 1
    assert len(replies) == 20


def test_a_stream_is_kept_and_streamed_again(system, lm_server):
    server = lm_server()
    lm = server.lm(cache=True)
    first = "".join(map(str, lm.stream("a stream")))
    assert first == "".join(map(str, lm.stream("a stream"))) == lm("a stream").text
    assert server.requests == 1


def test_folders_that_are_deleted_while_they_are_used_cost_answers_only(system, lm_server, home):
    import shutil

    server = lm_server("--answer", ANSWER)
    lm = server.lm(cache=True)
    done = []

    def follow(summary):
        if summary["done"] > 20 and not done:
            done.append(1)
            shutil.rmtree(home / "cache", ignore_errors=True)

    result = dspex.evaluate(triage(), tickets(300), metric(), lm=lm, on_progress=follow)
    assert (result.n, result.failed) == (300, 0)
    assert server.requests == 300
