"""A worker's sessions: one per deployment, asked in order with fallbacks, closed when nobody uses them."""

import asyncio
import functools
import json
import os

import pytest

from dspex_actors.errors import AuthError, InvalidRequest, LMError, Overloaded
from dspex_actors.lm.control.client import client_name
from dspex_actors.lm.control.messages import InForce, Join, Leave, Owned, Pause
from dspex_actors.lm.deployment import Limits
from dspex_actors.lm.lm import LM
from dspex_actors.lm.worker import directory as rooms
from dspex_actors.lm.worker.directory import Directory
from dspex_actors.names import CLIENTS
from supervisors import Ref
from supervisors.errors import AlreadyPresent

HI = [{"role": "user", "content": "hi"}]


class Worker:
    """Stands for the http worker: client actors are names that are there or not."""

    ref = Ref("here", 1, 2, 3, "5" * 16, 5)

    def __init__(self):
        self.node = {"data_dir": os.environ["DSPEX_HOME"]}
        self.casts = []
        self.there = set()
        self.ended = set()
        self.started = []
        self.left = asyncio.Event()
        self.joined = asyncio.Event()

    def monitor(self, ref):
        pass

    def cast(self, target, message):
        self.casts.append((target, message))
        if isinstance(message, Join):
            self.joined.set()
        if isinstance(message, Leave):
            self.left.set()

    async def whereis(self, name):
        return name if name in self.there or name == CLIENTS else None

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
        lm = LM("openai/x", base_url=server.url + "/v1", cache=False)
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


def test_lists_of_their_own_for_prompts_that_are_too_long_and_content_that_is_blocked(serve, answer, chat):
    said = {
        "long": (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}),
        "blocked": (400, {"error": {"message": "no", "code": "content_filter"}}),
        "away": (404, {"error": {"message": "no such model", "code": "model_not_found"}}),
    }

    async def go():
        asked = []

        def reply(number, head, raw):
            asked.append(model := json.loads(raw)["model"])
            return answer(*said.get(model, (200, chat(model))))

        async with serve(reply) as server:
            directory = Directory(Worker(), {})

            def lm(name, **lists):
                others = {
                    kind: [
                        LM(f"openai/{each}", base_url=server.url + "/v1", max_tokens=7, cache=False) for each in names
                    ]
                    for kind, names in lists.items()
                }
                return LM(f"openai/{name}", base_url=server.url + "/v1", cache=False, **others)

            async def ask(one):
                asked.clear()
                try:
                    reply = await directory.complete(one.request(HI, {}))
                    return reply.text, asked, reply.fallback and reply.fallback["because"]
                except LMError as error:
                    return type(error).__name__, asked, None

            every = {"fallbacks": ["a"], "context_fallbacks": ["large"], "content_fallbacks": ["frank"]}
            assert await ask(lm("good", **every)) == ("good", ["good"], None)
            assert await ask(lm("away", **every)) == ("a", ["away", "a"], "InvalidRequest")
            assert await ask(lm("long", **every)) == ("large", ["long", "large"], "ContextWindowExceeded")
            assert await ask(lm("blocked", **every)) == ("frank", ["blocked", "frank"], "ContentBlocked")
            # What is not given: `fallbacks` serves long prompts too, and nobody else is asked for blocked content.
            assert await ask(lm("long", fallbacks=["a"])) == ("a", ["long", "a"], "ContextWindowExceeded")
            assert await ask(lm("long", fallbacks=["a"], context_fallbacks=[])) == (
                "ContextWindowExceeded", ["long"], None
            )  # fmt: skip
            assert await ask(lm("blocked", fallbacks=["a"])) == ("ContentBlocked", ["blocked"], None)
            # Each error says which list goes on; nobody is asked twice.
            lists = {"fallbacks": ["long"], "context_fallbacks": ["blocked"], "content_fallbacks": ["away", "frank"]}
            assert await ask(lm("away", **lists)) == (
                "frank", ["away", "long", "blocked", "away", "frank"], "InvalidRequest"
            )  # fmt: skip
            await directory.aclose()

    asyncio.run(asyncio.wait_for(go(), 30))


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
        lm = LM("openai/x", base_url=server.url + "/v1", cache=False)
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
        lm = LM("openai/x", base_url=server.url + "/v1", cache=False)
        name = client_name(lm.deployment)
        await directory.complete(lm.request(HI, {}))
        worker.there.discard(name)
        worker.joined.clear()
        while worker.started != [name, name]:
            await worker.joined.wait()
            worker.joined.clear()
        assert name in worker.there

    run({}, body)


def test_a_client_actor_of_another_node_is_looked_for_when_there_is_a_call_again(run):
    """Its run is over: a hundred nodes would each start one of their own for nobody."""

    async def body(directory, worker, server):
        lm = LM("openai/x", base_url=server.url + "/v1", cache=False)
        name = client_name(lm.deployment)
        await directory.complete(lm.request(HI, {}))
        far = Ref("another", 1, 2, 3, "4" * 16, 5)
        directory.hear(Owned(lm.deployment, far))
        worker.there.discard(name)
        directory.down(far)
        directory._sweep.cancel()
        directory._sweep_idle()
        assert (directory._tasks, worker.started) == (set(), [name])
        await directory.complete(lm.request(HI, {}))
        while directory._tasks:
            await asyncio.wait(directory._tasks)
        assert worker.started == [name, name]

    run({}, body)


def test_what_a_client_actor_tells_reaches_the_session_of_its_deployment(run):
    async def body(directory, worker, server):
        lm = LM("openai/x", base_url=server.url + "/v1", cache=False)
        await directory.complete(lm.request(HI, {}))
        assert [type(message) for _, message in worker.casts] == [Join, Join]
        directory.hear(InForce(lm.deployment, Limits(max_in_flight=1).plain))
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
        lm = LM("openai/x", base_url=server.url + "/v1", cache=False)

        async def refused(branch, spec):
            raise AlreadyPresent(spec.id)

        fine, worker.start_child = worker.start_child, refused
        with pytest.raises(Overloaded):
            await directory.complete(lm.request(HI, {}))
        worker.start_child = fine
        assert (await directory.complete(lm.request(HI, {}))).text == "x"

    run({}, body)
