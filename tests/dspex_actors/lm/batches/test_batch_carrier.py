"""A batch is brought to a real server once, and its results back."""

import asyncio
import contextlib
import json
import logging

import pytest

from dspex_actors.embedded import EmbeddedConfig, batching, start_server
from dspex_actors.errors import AuthError
from dspex_actors.lm.batches import carrier as carrying
from dspex_actors.lm.batches.carrier import Carrier, Halved
from dspex_actors.lm.batches.messages import AskInBatch
from dspex_actors.lm.batches.store import ANSWERED, FAILED, IN_BATCH, BatchStore
from supervisors import Ref
from supervisors.testing import wait_until_async as soon

WORKER = Ref("127.0.0.1", 1, 1, 1, "0" * 16)


class Log:
    def __getattr__(self, name):
        return lambda text, **about: logging.getLogger(__name__).debug("%s %s", text, about)


class Kit:
    """A store, and a server."""

    def __init__(self, folder, server, provider):
        self.path, self.server, self.provider = folder / "batches.db", server, provider
        self.store = BatchStore(self.path)
        self.told, self.again = [], []

    def ask(self, *numbers):
        url = self.server.base_urls[self.provider]
        for number in numbers:
            told = {"role": "user", "content": f"ask {number}"}
            body = json.dumps({"model": "m", "max_tokens": 5, "messages": [told]}).encode()
            deployment = {"provider": self.provider, "model_name": "m", "base_url": url, "api_key": None}
            asked = AskInBatch("run", b"%d" % number, deployment, "chat", body, (number, 1, 1), (0.02, 0.02), WORKER)
            self.line = self.store.line_for(asked)
            self.store.add(asked, self.line.id)

    def begin(self, most=100):
        return self.store.begin(self.line.id, most, 10**6, 100)

    def carrier(self, batch):
        return Carrier(
            batch, self.line, self.store, self.path, self.told.extend,
            lambda line, rows: self.again.extend(rows), lambda: None, Log(),
        )  # fmt: skip

    def after_a_kill(self):
        """Open the store anew, as a collector does that is back; return the batches that it finds."""
        self.store.close()
        self.store = BatchStore(self.path)
        return self.store.open_batches()

    @property
    def batches(self):
        return list(self.server._batching._batches.values())


@pytest.fixture(params=["openai", "anthropic"])
def provider(request):
    return request.param


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(carrying, "SETTLE_SECONDS", 0.3)
    monkeypatch.setattr(carrying, "FULL_SECONDS", 0.0)
    monkeypatch.setattr(carrying, "AGAIN_FIRST", 0.01)


def run(folder, provider, scenario, **config):
    async def main():
        server = await start_server(EmbeddedConfig(answer="fine", **config))
        kit = Kit(folder, server, provider)
        try:
            async with asyncio.timeout(20):
                await scenario(kit)
        finally:
            kit.store.close()
            await server.close()

    asyncio.run(main())


async def killed(kit, batch):
    """Begin to bring a batch, and be killed when the server has it."""
    task = asyncio.create_task(kit.carrier(batch).run())
    await soon(lambda: kit.batches)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_results_come_in_once(tmp_path, provider):
    async def scenario(kit):
        kit.ask(1, 2, 3)
        await kit.carrier(kit.begin()).run()
        assert sorted(row.key for row in kit.told) == [b"1", b"2", b"3"]
        assert {(row.state, row.status) for row in kit.told} == {(ANSWERED, 200)}
        assert b"fine" in kit.told[0].answer
        assert kit.after_a_kill() == []
        assert kit.store.find("run", b"1").state == ANSWERED

    run(tmp_path, provider, scenario)


def test_whoever_is_killed_before_the_id_is_heard_finds_the_batch(tmp_path, provider):
    async def scenario(kit):
        kit.ask(1, 2)
        await killed(kit, kit.begin())
        (batch,) = kit.after_a_kill()
        assert (batch.state, batch.remote) == ("sending", None)
        await kit.carrier(batch).run()
        assert len(kit.told) == 2
        assert len(kit.batches) == 1

    run(tmp_path, provider, scenario, batch_answer_seconds=60, batch_seconds=0.1)


@pytest.mark.parametrize("status", [403, 404])
def test_a_batch_that_may_be_there_is_not_given_up_where_the_list_is_refused(tmp_path, provider, monkeypatch, status):
    get, refusals = carrying.BatchHttp.get, iter([True, True])

    async def refusing(self, path):
        if "?limit" in path and next(refusals, False):
            raise AuthError("this key may not list batches", status=status, retryable=False)
        return await get(self, path)

    monkeypatch.setattr(carrying.BatchHttp, "get", refusing)

    async def scenario(kit):
        kit.ask(1)
        await killed(kit, kit.begin())
        (batch,) = kit.after_a_kill()
        carrier = kit.carrier(batch)
        task = asyncio.create_task(carrier.run())
        await soon(lambda: carrier.trouble or task.done())
        assert carrier.trouble == "this key may not list batches"
        await task
        assert [row.state for row in kit.told] == [ANSWERED]
        assert len(kit.batches) == 1

    run(tmp_path, provider, scenario, batch_answer_seconds=60, batch_seconds=0.1)


def test_what_never_arrived_is_sent_once(tmp_path, provider):
    async def scenario(kit):
        kit.ask(1)
        batch = kit.begin()
        kit.store.change(batch, state="sending", sent=1e10)
        (batch,) = kit.after_a_kill()
        await kit.carrier(batch).run()
        assert [row.state for row in kit.told] == [ANSWERED]
        assert len(kit.batches) == 1

    run(tmp_path, provider, scenario)


def test_a_batch_of_somebody_else_of_the_same_size_is_not_ours(tmp_path, provider):
    async def scenario(kit):
        kit.ask(1)
        await kit.carrier(kit.begin()).run()
        kit.store.end_run("run")  # nobody here knows it now
        kit.told.clear()
        kit.ask(2)
        batch = kit.begin()
        kit.store.change(batch, state="sending", sent=kit.batches[0].made)
        (batch,) = kit.after_a_kill()
        await kit.carrier(batch).run()
        assert [row.key for row in kit.told] == [b"2"]
        assert len(kit.batches) == 2

    run(tmp_path, provider, scenario)


def test_a_server_that_is_away_gets_the_batch_when_it_is_back(tmp_path, provider):
    async def scenario(kit):
        kit.ask(1)
        batch = kit.begin()
        port = kit.server.port
        await kit.server.close()
        carrier = kit.carrier(batch)
        task = asyncio.create_task(carrier.run())
        await soon(lambda: carrier.trouble)
        assert "no connection" in carrier.trouble
        kit.server = await start_server(EmbeddedConfig(answer="fine", port=port))
        try:
            await task
            assert [row.state for row in kit.told] == [ANSWERED]
            assert len(kit.batches) == 1
        finally:
            await kit.server.close()

    run(tmp_path, provider, scenario)


def test_what_is_late_waits_for_another_batch(tmp_path, provider):
    async def scenario(kit):
        kit.ask(1, 2, 3)
        await kit.carrier(kit.begin()).run()
        assert len(kit.again) == 3
        batch = kit.begin()
        assert (batch.size, batch.state) == (3, "made")

    run(tmp_path, provider, scenario, batch_expired=1.0)


def test_a_wrong_key_fails_all_and_nothing_is_submitted(tmp_path, provider):
    async def scenario(kit):
        kit.ask(1, 2)
        await kit.carrier(kit.begin()).run()
        records = [json.loads(row.answer) for row in kit.told]
        assert [(row.state, record["type"]) for row, record in zip(kit.told, records, strict=True)] == [
            (FAILED, "AuthError")
        ] * 2
        assert kit.batches == []

    run(tmp_path, provider, scenario, require_key="sk-other")


def test_a_batch_that_is_not_wanted_any_more_is_cancelled_also_before_its_id_is_known(tmp_path):
    async def scenario(kit):
        kit.ask(1, 2)
        await killed(kit, kit.begin())
        (batch,) = kit.after_a_kill()
        carrier = kit.carrier(batch)
        carrier.cancel()
        await carrier.run()
        assert kit.batches[0].cancelled is not None
        assert kit.told == []
        assert kit.after_a_kill() == []

    # Where a provider keeps no names it runs to its end: nobody can tell before that it is ours.
    run(tmp_path, "openai", scenario, batch_answer_seconds=60, batch_seconds=0.5)


def test_what_is_too_much_for_the_provider_is_halved(tmp_path, monkeypatch):
    shown = batching._shown

    def limited(batch):
        if len(batch.requests) <= 1:
            return shown(batch)
        why = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}
        return shown(batch) | {"status": "failed", "errors": {"data": [why]}}

    monkeypatch.setattr(batching, "_shown", limited)

    async def scenario(kit):
        kit.ask(1, 2)
        with pytest.raises(Halved) as halved:
            await kit.carrier(kit.begin()).run()
        assert [batch.size for batch in halved.value.batches] == [1, 1]
        for batch in halved.value.batches:
            await kit.carrier(batch).run()
        assert sorted(row.key for row in kit.told) == [b"1", b"2"]
        assert {row.state for row in kit.told} == {ANSWERED}

    run(tmp_path, "openai", scenario)


def test_a_batch_that_the_provider_refuses_fails_its_requests_with_its_words(tmp_path, monkeypatch):
    shown = batching._shown
    why = {"code": "invalid_model", "message": "no such model"}
    monkeypatch.setattr(
        batching, "_shown", lambda batch: shown(batch) | {"status": "failed", "errors": {"data": [why]}}
    )

    async def scenario(kit):
        kit.ask(1)
        await kit.carrier(kit.begin()).run()
        (row,) = kit.told
        assert "invalid_model: no such model" in json.loads(row.answer)["message"]

    run(tmp_path, "openai", scenario)


def test_a_request_without_a_result_is_an_error_and_foreign_results_are_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(batching, "_result", lambda *rest: {"type": "succeeded", "message": {"id": "m"}})

    async def scenario(kit):
        kit.ask(1, 2)
        batch = kit.begin()
        task = asyncio.create_task(kit.carrier(batch).run())
        await soon(lambda: kit.batches and kit.batches[0].requests)
        kit.batches[0].requests[1] = ("another-2", kit.batches[0].requests[1][1])
        await task
        assert [row.state for row in sorted(kit.told, key=lambda row: row.key)] == [ANSWERED, FAILED]

    run(tmp_path, "anthropic", scenario, batch_seconds=0.3)


def test_a_batch_that_is_not_there_yet_is_looked_for_again(tmp_path, provider, monkeypatch):
    shown, looks = batching.Batching._answer, []

    async def late(self, request, kind, name, what):
        if request.method == "GET" and name and what is None:
            looks.append(name)
            if len(looks) < 3:
                return None
        return await shown(self, request, kind, name, what)

    monkeypatch.setattr(batching.Batching, "_answer", late)
    monkeypatch.setattr(carrying, "SETTLE_SECONDS", 10.0)

    async def scenario(kit):
        kit.ask(1)
        await kit.carrier(kit.begin()).run()
        assert [row.state for row in kit.told] == [ANSWERED]
        assert len(kit.batches) == 1

    run(tmp_path, provider, scenario)


def test_a_batch_that_is_gone_for_good_fails_its_requests(tmp_path, provider):
    async def scenario(kit):
        kit.ask(1)
        task = asyncio.create_task(kit.carrier(kit.begin()).run())
        await soon(lambda: kit.batches)
        kit.server._batching._batches.clear()
        await task
        assert [row.state for row in kit.told] == [FAILED]

    run(tmp_path, provider, scenario, batch_seconds=60)


def test_a_batch_takes_what_fits_and_what_waits_is_forgotten_by_a_kill(tmp_path):
    async def scenario(kit):
        kit.ask(1, 2, 3)
        first = kit.begin(2)
        assert first.size == 2
        assert kit.store.begin(kit.line.id, 100, 10, 100).size == 1  # what is too large goes alone
        kit.ask(4)
        kit.after_a_kill()
        assert kit.store.find("run", b"4") is None
        assert kit.store.find("run", b"1").state == IN_BATCH

    run(tmp_path, "openai", scenario)
