"""A worker's sessions: one per deployment, asked in order with fallbacks, closed when nobody uses them."""

import asyncio
import functools
import json

import pytest

from dspex_actors.errors import AuthError, InvalidRequest, Overloaded
from dspex_actors.lm.control.client import client_name
from dspex_actors.lm.control.messages import InForce, Join, Leave, Pause
from dspex_actors.lm.lm import LM
from dspex_actors.lm.worker import directory as rooms
from dspex_actors.lm.worker.directory import Directory
from supervisors.errors import AlreadyPresent

HI = [{"role": "user", "content": "hi"}]


class Worker:
    """Stands for the http worker: client actors are names that are there or not."""

    ref = "me"

    def __init__(self):
        self.casts = []
        self.there = set()
        self.ended = set()
        self.started = []
        self.left = asyncio.Event()
        self.joined = asyncio.Event()

    def cast(self, target, message):
        self.casts.append((target, message))
        if isinstance(message, Join):
            self.joined.set()
        if isinstance(message, Leave):
            self.left.set()

    async def whereis(self, name):
        return name if name in self.there else None

    async def start_child(self, branch, spec):
        if spec.id in self.ended:
            raise AlreadyPresent(spec.id)
        self.started.append(spec.id)
        self.there.add(spec.id)
        return spec.id

    async def delete_child(self, branch, name):
        self.ended.discard(name)

    def spawn(self, coroutine):
        return asyncio.ensure_future(coroutine)


@pytest.fixture
def run(serve, answer, chat):
    """Return what runs `body(directory, worker, server)`; the server answers each model with a status."""
    return functools.partial(_run, serve, answer, chat)


def _run(serve, answer, chat, answers, body):
    def reply(number, head, raw):
        model = json.loads(raw)["model"]
        status = answers.get(model, 200)
        return answer(status, chat(model) if status == 200 else {"error": {"message": "no"}})

    async def go():
        async with serve(reply) as server:
            worker = Worker()
            directory = Directory(worker, {})
            try:
                await body(directory, worker, server)
            finally:
                await directory.aclose()

    asyncio.run(asyncio.wait_for(go(), 30))


def test_lms_of_one_deployment_share_a_session_and_its_client_actor(run):
    async def body(directory, worker, server):
        lm = LM("openai/x", base_url=server.url + "/v1")
        same = [lm, lm.with_params(temperature=1.0), lm.copy(timeout=5.0), lm.copy(rpm=None, fallbacks=["openai/y"])]
        for one in same:
            await directory.complete(one.request(HI, {}))
        await directory.complete(lm.request(HI, {"temperature": 0.5}))
        await directory.complete(lm.copy(model="openai/y").request(HI, {}))
        assert worker.started == [client_name(lm.deployment), client_name(lm.copy(model="openai/y").deployment)]
        assert [json.loads(body).get("temperature") for body in server.bodies] == [None, 1.0, None, None, 0.5, None]

    run({}, body)


def test_a_fallback_is_asked_with_its_own_parameters_and_the_calls(run):
    async def body(directory, worker, server):
        address = server.url + "/v1"
        other = LM("openai/y", base_url=address, seed=1)
        lm = LM("openai/gone", base_url=address, temperature=0.5, fallbacks=[other])
        reply = await directory.complete(lm.request(HI, {"top_p": 0.5}))
        assert (reply.text, reply.asked) == ("y", 2)
        sent = json.loads(server.bodies[-1])
        assert (sent["seed"], sent["top_p"], sent.get("temperature")) == (1, 0.5, None)

    run({"gone": 404}, body)


def test_the_error_that_passes_is_told_and_the_one_after_a_wrong_fallback_is_asked(run):
    async def body(directory, worker, server):
        address = server.url + "/v1"
        lm = LM(
            "openai/away",
            base_url=address,
            deadline=0.4,
            fallbacks=[
                LM("openai/wrong", base_url=address),
                LM("openai/y", base_url=address, api_key="env:NO_SUCH_VARIABLE"),
            ],
        )
        with pytest.raises(Exception) as caught:  # noqa: PT011 - its type is what is looked at
            await directory.complete(lm.request(HI, {}))
        assert caught.value.model == "away"
        assert str(caught.value).endswith("asked beside it: openai/wrong InvalidRequest, openai/y AuthError")
        assert not isinstance(caught.value, InvalidRequest | AuthError)
        assert caught.value.asked == len(server.bodies)
        assert json.loads(server.bodies[-1])["model"] == "wrong"
        fine = lm.copy(fallbacks=[LM("openai/wrong", base_url=address), LM("openai/z", base_url=address)])
        assert (await directory.complete(fine.request(HI, {}))).text == "z"

    run({"away": 503, "wrong": 400}, body)


def test_a_request_that_is_wrong_or_blocked_is_asked_of_nobody_else(run):
    async def body(directory, worker, server):
        address = server.url + "/v1"
        lm = LM("openai/wrong", base_url=address, fallbacks=[LM("openai/y", base_url=address)])
        with pytest.raises(InvalidRequest):
            await directory.complete(lm.request(HI, {}))
        assert len(server.bodies) == 1

    run({"wrong": 400}, body)


def test_a_session_that_nobody_uses_is_closed_and_opened_again(run, monkeypatch):
    monkeypatch.setattr(rooms, "IDLE_SECONDS", 0.02)
    monkeypatch.setattr(rooms, "SWEEP_SECONDS", 0.01)

    async def body(directory, worker, server):
        lm = LM("openai/x", base_url=server.url + "/v1")
        name = client_name(lm.deployment)
        await directory.complete(lm.request(HI, {}))
        await worker.left.wait()
        assert directory._slots == {}
        # Its client actor has ended by itself; the branch remembers the name.
        worker.there.discard(name)
        worker.ended.add(name)
        await directory.complete(lm.request(HI, {}))
        assert worker.started == [name, name]

    run({}, body)


def test_a_client_actor_that_ended_while_a_session_is_open_is_brought_back_and_told(run, monkeypatch):
    monkeypatch.setattr(rooms, "SWEEP_SECONDS", 0.01)

    async def body(directory, worker, server):
        lm = LM("openai/x", base_url=server.url + "/v1")
        name = client_name(lm.deployment)
        await directory.complete(lm.request(HI, {}))
        worker.there.discard(name)
        worker.joined.clear()
        while worker.started != [name, name]:
            await worker.joined.wait()
            worker.joined.clear()
        assert name in worker.there

    run({}, body)


def test_what_a_client_actor_tells_reaches_the_session_of_its_deployment(run):
    async def body(directory, worker, server):
        lm = LM("openai/x", base_url=server.url + "/v1")
        await directory.complete(lm.request(HI, {}))
        assert [type(message) for _, message in worker.casts] == [Join, Join]
        directory.hear(InForce(lm.deployment, (None, None, 1)))
        await asyncio.gather(*(directory.complete(lm.request(HI, {})) for _ in range(9)))
        assert server.most_in_flight == 1
        directory.hear(Pause(lm.deployment, 60.0, "other"))
        directory.hear(Pause("unknown", 60.0, "other"))
        with pytest.raises(Exception, match="longer than this call may take"):
            await directory.complete(lm.copy(deadline=1.0).request(HI, {}))

    run({}, body)


def test_a_deployment_that_cannot_be_opened_is_tried_again_by_the_next_call(run, monkeypatch):
    monkeypatch.setattr(rooms, "TRIES", 1)

    async def body(directory, worker, server):
        lm = LM("openai/x", base_url=server.url + "/v1")

        async def refused(branch, spec):
            raise AlreadyPresent(spec.id)

        fine, worker.start_child = worker.start_child, refused
        with pytest.raises(Overloaded):
            await directory.complete(lm.request(HI, {}))
        worker.start_child = fine
        assert (await directory.complete(lm.request(HI, {}))).text == "x"

    run({}, body)
