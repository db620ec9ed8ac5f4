"""Batches as OpenAI and Anthropic have them: many requests at once, and their answers later.

OpenAI: a file of JSON lines is uploaded (`POST /v1/files`), a batch is made of it (`POST /v1/batches`), answers and
errors are two more files. Anthropic: the requests are the body of `POST /v1/messages/batches`, and the results lines.
`GET /batched` is the server's own: a row for each batch that was made, with what was asked in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp.web_exceptions import HTTPRequestEntityTooLarge
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from dspex_actors.embedded.config import EmbeddedConfig
from dspex_actors.embedded.guess import fraction
from dspex_actors.embedded.paths import route
from dspex_actors.embedded.service import Outcome, Service
from dspex_actors.embedded.wire import WIRES, Trouble

#: The most that a batch may have, and the most bytes of its file or body.
MOST = {"openai": (50_000, 200 << 20), "anthropic": (100_000, 256 << 20)}
#: The largest body that is taken.
MAX_BATCH = 272 << 20
DAY_SECONDS = 86_400
#: Requests that are answered in one go: then it is others' turn.
_AT_ONCE = 16
_PATH = re.compile(r"/v1/(files|batches|messages/batches)(?:/([\w-]+))?(?:/(content|cancel|results))?")
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass
class _Batch:
    """One batch, as it stands."""

    id: str
    provider: str
    endpoint: str
    made: float
    headers: Mapping[str, str]
    #: Custom id and body of each request.
    requests: list[tuple[str, bytes]]
    metadata: dict[str, str] = field(default_factory=dict)
    file: str = ""
    #: Why it could not begin; None: it could.
    refused: str | None = None
    #: Custom id and status (0: expired, -1: given up) of those that are done, and their lines.
    done: dict[str, int] = field(default_factory=dict)
    lines: list[tuple[str, int, Any]] = field(default_factory=list)
    ended: float | None = None
    cancelled: float | None = None

    def count(self, wanted: Callable[[int], bool]) -> int:
        return sum(map(wanted, self.done.values()))


class Batching:
    """The batches of one server; they are gone when it ends.

    Args:
        config: how long a batch takes, and what goes wrong in it.
        service: answers the requests.
    """

    def __init__(self, config: EmbeddedConfig, service: Service) -> None:
        """Begin without any."""
        self._config, self._service = config, service
        self._files: dict[str, bytes] = {}
        self._batches: dict[str, _Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked = 0

    @staticmethod
    def serves(path: str) -> bool:
        """Whether an address is one of batches or files."""
        return path == "/batched" or _PATH.fullmatch(path) is not None

    def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()

    async def answer(self, request: BaseRequest) -> Response:
        """Answer a request about batches or files."""
        if request.path == "/batched":
            return _json([self._booked(batch) for batch in self._batches.values()])
        found = _PATH.fullmatch(request.path)
        assert found is not None
        kind, name, what = found.groups()
        provider = "anthropic" if kind == "messages/batches" else "openai"
        trouble = self._service.key_trouble(WIRES[provider], request.headers)
        if trouble is None:
            try:
                answer = await self._answer(request, kind, name, what)
            except HTTPRequestEntityTooLarge:
                trouble = Trouble("too_large", f"the request's body is larger than {MAX_BATCH} bytes")
            except ValueError as error:
                trouble = Trouble("invalid", str(error))
            else:
                if answer is not None:
                    return answer
                trouble = Trouble("not_found", f"No such thing: {request.method} {request.path}.")
        refusal = self._service.refuse(WIRES[provider], trouble, "0", time.time(), time.monotonic())
        return Response(
            status=refusal.status, body=refusal.body, headers={"Content-Type": "application/json", **refusal.headers}
        )

    async def _answer(self, request: BaseRequest, kind: str, name: str | None, what: str | None) -> Response | None:
        match request.method, kind, name, what:
            case "POST", "files", None, None:
                return await self._upload(request)
            case "GET", "files", str(), "content":
                data = self._file(name)
                return None if data is None else Response(body=data, content_type="application/octet-stream")
            case "POST", "batches", None, None:
                return await self._made(self._from_file(await _body(request), request.headers))
            case "POST", "messages/batches", None, None:
                return await self._made(self._from_body(await _body(request), request.headers))
            case "GET", _, None, None if kind != "files":
                return self._list(request.query, kind)
        batch = self._batches.get(name or "")
        if batch is None or (batch.provider == "anthropic") != (kind == "messages/batches"):
            return None
        if request.method == "POST" and what == "cancel":
            if batch.ended is None and batch.cancelled is None:
                batch.cancelled = time.time()
            return _json(_shown(batch))
        if request.method == "GET" and what is None:
            return _json(_shown(batch))
        if request.method == "GET" and what == "results" and batch.ended is not None:
            lines = [orjson.dumps({"custom_id": name, "result": _result(*rest)}) for name, *rest in batch.lines]
            return Response(body=b"\n".join(lines) + b"\n", content_type="application/x-jsonl")
        return None

    # --- made -------------------------------------------------------------------------------------------------------

    async def _upload(self, request: BaseRequest) -> Response:
        form = await request.post()
        file, purpose = form.get("file"), form.get("purpose")
        if purpose != "batch" or not hasattr(file, "file"):
            raise ValueError("expected a file with the purpose 'batch'")
        data = file.file.read()  # type: ignore[union-attr]
        if len(data) > MOST["openai"][1]:
            raise ValueError(f"the file has {len(data)} bytes, at most {MOST['openai'][1]} are allowed")
        name = f"file-{len(self._files) + 1:012x}"
        self._files[name] = data
        shown = {"id": name, "object": "file", "bytes": len(data), "created_at": int(time.time()), "purpose": "batch"}
        return _json({**shown, "filename": file.filename, "status": "processed"})  # type: ignore[union-attr]

    def _file(self, name: str) -> bytes | None:
        if name in self._files:
            return self._files[name]
        kind, _, of = name.removeprefix("file-").partition("-")
        batch = self._batches.get(of)
        if batch is None or batch.ended is None:
            return None
        wanted = [(name, status, body) for name, status, body in batch.lines if (status == 200) == (kind == "output")]
        return b"".join(orjson.dumps(_line(batch, *one)) + b"\n" for one in wanted)

    def _from_file(self, body: dict[str, Any], headers: Mapping[str, str]) -> _Batch:
        file, endpoint = body.get("input_file_id"), body.get("endpoint")
        if file not in self._files or not isinstance(endpoint, str) or route(endpoint) is None:
            raise ValueError("expected input_file_id of an uploaded file, and an endpoint that batches have")
        if body.get("completion_window") != "24h":
            raise ValueError("completion_window must be 24h")
        metadata = body.get("metadata") or {}
        batch = self._new("openai", endpoint, [], headers)
        batch.metadata, batch.file = dict(metadata), str(file)
        try:
            for number, line in enumerate(self._files[str(file)].splitlines(), 1):
                one = orjson.loads(line)
                if one["method"] != "POST" or one["url"] != endpoint:
                    raise ValueError(f"line {number}: url must be {endpoint}")
                batch.requests.append((str(one["custom_id"]), orjson.dumps(one["body"])))
            _check(batch)
        except (ValueError, LookupError, TypeError) as error:
            batch.refused, batch.ended = str(error), time.time()
        return batch

    def _from_body(self, body: dict[str, Any], headers: Mapping[str, str]) -> _Batch:
        requests = body.get("requests")
        if not isinstance(requests, list):
            raise ValueError("requests: expected an array")
        try:
            named = [(str(one["custom_id"]), orjson.dumps(one["params"])) for one in requests]
        except (LookupError, TypeError):
            raise ValueError("requests: expected custom_id and params in each") from None
        batch = self._new("anthropic", "/v1/messages", named, headers)
        try:
            _check(batch)
        except ValueError:
            del self._batches[batch.id]
            raise
        return batch

    def _new(
        self, provider: str, endpoint: str, requests: list[tuple[str, bytes]], headers: Mapping[str, str]
    ) -> _Batch:
        name = f"{'batch' if provider == 'openai' else 'msgbatch'}_{len(self._batches) + 1:012x}"
        batch = _Batch(name, provider, endpoint, time.time(), headers, requests)
        self._batches[name] = batch
        return batch

    async def _made(self, batch: _Batch) -> Response:
        if batch.ended is None:
            task = asyncio.create_task(self._work(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._config.batch_answer_seconds:
            await asyncio.sleep(self._config.batch_answer_seconds)
        return _json(_shown(batch))

    # --- worked off -------------------------------------------------------------------------------------------------

    async def _work(self, batch: _Batch) -> None:
        """Answer the requests one after the other, spread over the time that a batch takes."""
        began = time.monotonic()
        each = self._config.batch_seconds / max(1, len(batch.requests))
        for place, (name, body) in enumerate(batch.requests):
            pause = began + each * (place + 1) - time.monotonic()
            if pause > 0.01 or place % _AT_ONCE == 0:
                await asyncio.sleep(max(0.0, pause))
            if batch.cancelled is not None:
                status, told = -1, None
            else:
                status, told = self._one(batch, body)
            batch.done[name] = status
            batch.lines.append((name, status, told))
        batch.ended = time.time()

    def _one(self, batch: _Batch, body: bytes) -> tuple[int, Any]:
        self._asked += 1
        at = fraction(self._config.seed, self._asked, "batch")
        if at < self._config.batch_expired:
            return 0, None
        wire = WIRES[route(batch.endpoint).wire]  # type: ignore[union-attr]
        stats = self._service.stats
        stats.requests += 1
        number, now, clock = stats.requests, time.time(), time.monotonic()
        if at < self._config.batch_expired + self._config.batch_failed:
            outcome = self._service.refuse(
                wire, Trouble("server_error", "Internal server error (injected)."), f"{number:016x}", now, clock
            )
        else:
            outcome = self._service.answer(wire, "", batch.headers, body, number, now, clock)
        return _plain(outcome)

    # --- shown ------------------------------------------------------------------------------------------------------

    def _list(self, query: Mapping[str, str], kind: str) -> Response:
        provider = "openai" if kind == "batches" else "anthropic"
        newest = [batch for batch in reversed(self._batches.values()) if batch.provider == provider]
        after = query.get("after" if provider == "openai" else "after_id")
        if after is not None:
            ids = [batch.id for batch in newest]
            newest = newest[ids.index(after) + 1 :] if after in ids else []
        limit = min(int(query.get("limit", "20")), 100 if provider == "openai" else 1000)
        page = newest[:limit]
        ends = {"first_id": page[0].id if page else None, "last_id": page[-1].id if page else None}
        return _json({"data": [_shown(batch) for batch in page], "has_more": len(newest) > limit, **ends})

    def _booked(self, batch: _Batch) -> dict[str, Any]:
        return {
            "id": batch.id,
            "provider": batch.provider,
            "metadata": batch.metadata,
            "requests": [[name, body.decode()] for name, body in batch.requests],
            "statuses": [batch.done.get(name) for name, _ in batch.requests],
            "ended": batch.ended is not None,
            "cancelled": batch.cancelled is not None,
        }


async def _body(request: BaseRequest) -> dict[str, Any]:
    body = orjson.loads(await request.read())
    if not isinstance(body, dict):
        raise ValueError("expected a JSON object")
    return body


def _check(batch: _Batch) -> None:
    most, _ = MOST[batch.provider]
    names = [name for name, _ in batch.requests]
    if not 1 <= len(names) <= most:
        raise ValueError(f"a batch has 1 to {most} requests, got {len(names)}")
    if len(set(names)) != len(names):
        raise ValueError("custom_id: each must be another one")
    if batch.provider == "anthropic" and not all(map(_CUSTOM_ID.fullmatch, names)):
        raise ValueError("custom_id: expected 1 to 64 letters, digits, '-' or '_'")


def _plain(outcome: Outcome) -> tuple[int, Any]:
    if outcome.fault is not None:
        return 500, {"error": {"message": f"injected: {outcome.fault}", "type": "server_error"}}
    with contextlib.suppress(orjson.JSONDecodeError):
        return outcome.status, orjson.loads(outcome.body)
    return 500, {"error": {"message": "injected: garbage", "type": "server_error"}}


def _line(batch: _Batch, name: str, status: int, body: Any) -> dict[str, Any]:
    """Return a line of OpenAI's two files."""
    if status <= 0:
        code, what = ("batch_expired", "This request could not be executed before the completion window expired.")
        if status < 0:
            code, what = "batch_cancelled", "This request was not executed: the batch was cancelled."
        return {
            "id": f"batch_req_{name}",
            "custom_id": name,
            "response": None,
            "error": {"code": code, "message": what},
        }
    response = {"status_code": status, "request_id": f"req_{batch.id}_{name}", "body": body}
    return {"id": f"batch_req_{name}", "custom_id": name, "response": response, "error": None}


def _result(status: int, body: Any) -> dict[str, Any]:
    """Return the result in one of Anthropic's lines."""
    if status <= 0:
        return {"type": "expired" if status == 0 else "canceled"}
    if status == 200:
        body = {**body, "usage": {**body["usage"], "service_tier": "batch"}}
        return {"type": "succeeded", "message": body}
    return {"type": "errored", "error": body}


def _shown(batch: _Batch) -> dict[str, Any]:
    """Return a batch as its provider shows it."""
    total = len(batch.requests)
    good, expired, gone = (batch.count(lambda status, of=of: status == of) for of in (200, 0, -1))  # type: ignore[misc]
    bad = len(batch.done) - good - expired - gone
    if batch.provider == "anthropic":
        state = "ended" if batch.ended else "in_progress" if batch.cancelled is None else "canceling"
        counts = {"succeeded": good, "errored": bad, "expired": expired, "canceled": gone}
        if state != "ended":  # none of them tells anything before
            counts = dict.fromkeys(counts, 0)
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": state,
            "request_counts": {"processing": total - sum(counts.values()), **counts},
            "created_at": _stamp(batch.made),
            "expires_at": _stamp(batch.made + DAY_SECONDS),
            "ended_at": None if batch.ended is None else _stamp(batch.ended),
            "archived_at": None,
            "cancel_initiated_at": None if batch.cancelled is None else _stamp(batch.cancelled),
            "results_url": None if batch.ended is None else f"/v1/messages/batches/{batch.id}/results",
        }
    state = "in_progress" if batch.cancelled is None else "cancelling"
    if batch.ended is not None:
        state = "failed" if batch.refused else "cancelled" if gone else "expired" if expired else "completed"
    errors = None
    if batch.refused:
        errors = {"object": "list", "data": [{"code": "invalid_json_line", "message": batch.refused, "line": None}]}
    has_files = batch.ended is not None and batch.refused is None
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": errors,
        "input_file_id": batch.file,
        "completion_window": "24h",
        "status": state,
        "output_file_id": f"file-output-{batch.id}" if has_files and good else None,
        "error_file_id": f"file-error-{batch.id}" if has_files and good < total else None,
        "created_at": int(batch.made),
        "expires_at": int(batch.made) + DAY_SECONDS,
        "request_counts": {"total": total, "completed": good, "failed": bad},
        "metadata": batch.metadata,
    }


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _json(body: Any) -> Response:
    return Response(body=orjson.dumps(body), content_type="application/json")
