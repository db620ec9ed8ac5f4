"""Requests about batches: few, and large. Redirects are not followed, and no exception of a library leaves.

Beside `lm.worker.http`, which is for calls: here files go up and come down piece by piece, and are never in memory.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from dspex_actors.errors import LMError, Overloaded, StreamTruncated
from dspex_actors.lm import address
from dspex_actors.lm.deployment import Deployment
from dspex_actors.lm.keys import resolve, variable
from dspex_actors.lm.wire import bodies
from dspex_actors.lm.wire.base import Provider
from dspex_actors.lm.wire.exchange import RawReply
from dspex_actors.lm.worker import http_errors, lean, resolving
from dspex_actors.lm.worker.http import CONNECT, tls

with lean.imports():
    import aiohttp

#: Seconds without a byte, and for an answer to begin: a provider reads a large file first.
IDLE = 300.0
#: Bytes of one answer, and of one line of results, at most.
MAX_ANSWER, MAX_LINE = 32 << 20, 64 << 20
_PIECE = 1 << 18


class BatchHttp:
    """Asks one deployment's server about batches.

    Args:
        deployment: whose key is used.
        provider: its format.
    """

    def __init__(self, deployment: Deployment, provider: Provider) -> None:
        """Open nothing, and read no key, before the first request."""
        self._deployment, self._provider = deployment, provider
        self._session: aiohttp.ClientSession | None = None
        base = deployment.server
        assert base is not None
        self._base = base
        self._origin = address.origin(base)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            secure = {"ssl": tls()} if self._origin.startswith("https:") else {}
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=8, resolver=resolving.Resolver(), **secure),  # type: ignore[arg-type]
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_connect=CONNECT, sock_read=IDLE),
                trust_env=False,
            )
        return self._session

    def _headers(self, url: str, kind: str | None) -> dict[str, str]:
        headers = self._provider.headers()
        del headers["content-type"]
        if kind is not None:
            headers["content-type"] = kind
        reference = self._deployment.key_reference
        if reference is not None:
            try:
                key = resolve(reference)
            except LMError as error:
                needs = f"{error.message}; {self._deployment.provider} needs {variable(reference)}, or another api_key"
                error.message = needs
                error.args = (needs,)
                raise
            name, prefix = self._provider.key(url)
            headers[name] = prefix + key
        return headers

    async def get(self, path: str) -> dict[str, Any]:
        """Return the JSON at a path below the base URL.

        Raises:
            LMError: there is none.
        """
        return await self._json("GET", path, None, None)

    async def post(self, path: str, data: dict[str, Any]) -> dict[str, Any]:
        """Send JSON and return the answer's.

        Raises:
            LMError: there is none. `was_sent` is False where the server has certainly not heard of it.
        """
        return await self._json("POST", path, bodies.dump(data), "application/json")

    async def post_file(self, path: str, file: Path) -> dict[str, Any]:
        """Send a file that holds JSON."""
        with file.open("rb") as content:
            return await self._json("POST", path, content, "application/json")

    async def upload(self, path: str, file: Path, name: str) -> dict[str, Any]:
        """Upload a file for a batch, as OpenAI takes it."""
        with file.open("rb") as content:
            form = aiohttp.FormData()
            form.add_field("purpose", "batch")
            form.add_field("file", content, filename=name, content_type="application/jsonl")
            return await self._json("POST", path, form, None)

    async def lines(self, path: str) -> AsyncGenerator[bytes, None]:
        """Give the lines of a file, as they come.

        Raises:
            LMError: it cannot be had, or not to its end.
        """
        answer = await self._ask("GET", path, None, None)
        try:
            if answer.status != 200:
                raise await self._refused(answer)
            rest = b""
            while True:
                piece = await self._piece(answer)
                if not piece:
                    break
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    if line.strip():
                        yield line
                if len(rest) > MAX_LINE:
                    raise Overloaded(f"{self._origin} gave a result of more than {MAX_LINE} bytes", retryable=False)
            if rest.strip():
                yield rest
        finally:
            answer.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _json(self, method: str, path: str, data: Any, kind: str | None) -> dict[str, Any]:
        answer = await self._ask(method, path, data, kind)
        try:
            if not 200 <= answer.status < 300:
                raise await self._refused(answer)
            body = await self._whole(answer)
        finally:
            answer.close()
        found: Any = None
        with contextlib.suppress(ValueError):
            found = bodies.load(body)
        if not isinstance(found, dict):
            raise Overloaded(f"{self._origin}{path} answered with something else than JSON", retryable=True)
        return found

    async def _ask(self, method: str, path: str, data: Any, kind: str | None) -> aiohttp.ClientResponse:
        url = address.join(self._base, path)
        headers = self._headers(url, kind)
        error: LMError | None = None
        try:
            return await self._open().request(method, url, data=data, headers=headers, allow_redirects=False)
        except Exception as exc:
            error = http_errors.unreachable(exc, self._origin)
            if isinstance(exc, aiohttp.ServerTimeoutError) and not isinstance(exc, aiohttp.ConnectionTimeoutError):
                error.was_sent = True  # it was connected, and did not answer
        raise error

    async def _piece(self, answer: aiohttp.ClientResponse) -> bytes:
        error: LMError | None = None
        try:
            return await answer.content.read(_PIECE)
        except Exception as exc:
            error = StreamTruncated(f"{self._origin} broke off: {type(exc).__name__}", retryable=True)
        raise error

    async def _whole(self, answer: aiohttp.ClientResponse) -> bytes:
        pieces: list[bytes] = []
        while piece := await self._piece(answer):
            pieces.append(piece)
            if sum(map(len, pieces)) > MAX_ANSWER:
                raise Overloaded(f"{self._origin} answered with more than {MAX_ANSWER} bytes", retryable=False)
        return b"".join(pieces)

    async def _refused(self, answer: aiohttp.ClientResponse) -> LMError:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        raw = RawReply(answer.status, headers, await self._whole(answer))
        data: Any = None
        with contextlib.suppress(ValueError):
            data = bodies.load(raw.body)
        return self._provider.refusal(raw, time.time(), data)


def is_refused(error: LMError) -> bool:
    """Whether the server has certainly not done what it was asked; else nobody knows."""
    if not error.was_sent:
        return True
    return error.status is not None and 300 <= error.status < 500 and error.status not in (408, 409)


def may_pass(error: LMError) -> bool:
    """Whether a refusal is one for the moment."""
    return not error.was_sent or error.status == 429 or error.retryable is True
