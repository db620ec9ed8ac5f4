"""Fetches pictures for providers that take no addresses: only from hosts that the configuration lists.

An address in a prompt may be anybody's. So nothing is fetched unless its host is listed (`providers.media_hosts`), over
https unless it is listed with http; its addresses are looked up once, looked at, and those are connected to; redirects
are not followed, no proxy is used; size and time are bounded; and what came must be a picture by its bytes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from dspex_actors.errors import InvalidRequest
from dspex_actors.foundation import media
from dspex_actors.foundation.secrets import scrub
from dspex_actors.lm.hosts import Address, Allowed, BadHostError, address_of, is_trick
from dspex_actors.lm.worker import http, lean

with lean.imports():
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

#: The setting that lists hosts.
MEDIA_HOSTS = "providers.media_hosts"
#: Bytes of a picture at most, seconds for one, and pictures that one call may have fetched.
MOST, SECONDS, PICTURES = 20 * 1024 * 1024, 20.0, 64


class Media:
    """The hosts that pictures may be fetched from, and the fetching.

    Args:
        hosts: as in the configuration.
        most: bytes of a picture at most.
        seconds: for one.
    """

    def __init__(self, hosts: Iterable[str] = (), *, most: int = MOST, seconds: float = SECONDS) -> None:
        """Begin with these hosts."""
        self.allow(hosts)
        self._most = most
        self._seconds = seconds

    def allow(self, hosts: Iterable[str]) -> None:
        """Take these hosts from now on; a list that cannot be read allows none."""
        try:
            self._allowed = Allowed.of(hosts)
        except BadHostError:  # the configuration refuses it before
            self._allowed = Allowed()

    async def inlined(self, provider: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return messages in which pictures have their bytes instead of addresses; unchanged where all have.

        Args:
            provider: who takes no addresses, for the error.
            messages: role/content messages.

        Raises:
            InvalidRequest: an address may not be asked, or what is there is no picture.
        """
        urls = list(dict.fromkeys(url for message in messages for url in _addresses(message)))
        if not urls:
            return messages
        if len(urls) > PICTURES:
            raise _refusal(f"{provider} takes no image addresses, and {len(urls)} are more than {PICTURES} to fetch")
        for url in urls:  # before the first is fetched
            self._check(provider, url)
        found = await asyncio.gather(*(self._fetched(url) for url in urls), return_exceptions=True)
        if problem := next((one for one in found if isinstance(one, BaseException)), None):
            raise problem
        by_url: dict[str, Any] = dict(zip(urls, found, strict=True))
        return [_with_bytes(message, by_url) for message in messages]

    def _check(self, provider: str, url: str) -> None:
        problem, host = "", ""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise _refusal(f"no picture is fetched from {_shown(url)}: it is no address") from None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None or "\\" in url:
            problem = "it is not of the form https://host/path"
        elif is_trick(host):
            problem = f"its host is written in another way than it is reached ({address_of(host) or 'a name'})"
        elif not self._allowed.takes(parts.scheme, host, port):
            plain = Allowed.takes(self._allowed, "https", host, port) and parts.scheme == "http"
            entry = host if (port or 443) == 443 and parts.scheme == "https" else parts.netloc
            problem = (
                f"{host} is listed for https only"
                if plain
                else f"{provider} takes no addresses, and this host is not in {MEDIA_HOSTS}: give the bytes "
                f"(Image.from_path, Image.from_url), or add "
                f"'{entry if parts.scheme == 'https' else f'http://{parts.netloc}'}' to it"
            )
        elif (address := address_of(host)) is not None and not self._allowed.reaches(address):
            problem = "it is not on the open internet"
        if problem:
            raise _refusal(f"no picture is fetched from {_shown(url)}: {problem}")

    async def _fetched(self, url: str) -> str:
        """Return a picture as a data URL."""
        problem, retryable = "", True
        try:
            async with asyncio.timeout(self._seconds):
                data = await self._bytes(url)
            kind = media.kind_of(data)
            if kind is not None and kind.startswith("image/"):
                return f"data:{kind};base64,{media.encoded(data)}"
            problem, retryable = f"its bytes are {kind or 'none that a picture begins with'}", False
        except _NoAnswerError as error:
            problem, retryable = str(error), error.retryable
        except TimeoutError:
            problem = f"nothing whole came within {self._seconds:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = f"no answer ({type(error).__name__})"
        raise _refusal(f"no picture could be fetched from {_shown(url)}: {problem}", retryable=retryable)

    async def _bytes(self, url: str) -> bytes:
        is_tls = url.lower().startswith("https:")
        connector = aiohttp.TCPConnector(
            resolver=_Resolver(self._allowed), use_dns_cache=False, force_close=True, ssl=http.tls() if is_tls else True
        )
        headers = {"accept": "image/*", "accept-encoding": "identity", "user-agent": "dspex-actors"}
        async with (
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
            ) as session,
            session.get(url, headers=headers, allow_redirects=False) as answer,
        ):
            if 300 <= answer.status < 400:
                raise _NoAnswerError(f"status {answer.status}: redirects are not followed", retryable=False)
            if answer.status != 200:
                raise _NoAnswerError(f"status {answer.status}", retryable=answer.status >= 500 or answer.status == 429)
            if (answer.content_length or 0) > self._most:
                raise _NoAnswerError(f"more than {self._most} bytes", retryable=False)
            data = bytearray()
            async for piece in answer.content.iter_any():
                data += piece
                if len(data) > self._most:
                    raise _NoAnswerError(f"more than {self._most} bytes", retryable=False)
            return bytes(data)


#: Of this process: its worker keeps it to the configuration.
MEDIA = Media()


class _NoAnswerError(Exception):
    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class _Resolver(AbstractResolver):
    """Looks a name up once, and gives only addresses that may be connected to: these are connected to."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        addresses = [(place[0], ipaddress.ip_address(str(place[4][0]).partition("%")[0])) for place in found]
        # One that may not be reached, and none is asked: a name that has both is no accident.
        if any(not self._allowed.reaches(address) for _, address in addresses):
            raise _NoAnswerError("the name's address is not on the open internet, nor listed", retryable=False)
        return [_result(host, port, kind, address) for kind, address in addresses]

    async def close(self) -> None:
        """There is nothing to close."""


def _result(host: str, port: int, family: int, address: Address) -> ResolveResult:
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=str(address), port=port, family=family, proto=0, flags=flags)


def _addresses(message: dict[str, Any]) -> Iterable[str]:
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and part.get("type") == "image_url":
            url = _url(part)
            if isinstance(url, str) and not media.is_data_url(url) and not url.startswith("gs://"):
                yield url


def _url(part: dict[str, Any]) -> Any:
    image = part.get("image_url")
    return image.get("url") if isinstance(image, dict) else image


def _with_bytes(message: dict[str, Any], by_url: dict[str, str]) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts = []
    for part in content:
        data = by_url.get(_url(part)) if isinstance(part, dict) and part.get("type") == "image_url" else None
        image = part.get("image_url") if data is not None else None
        told = {**image, "url": data} if isinstance(image, dict) else {"url": data}
        parts.append(part if data is None else {**part, "image_url": told})
    return {**message, "content": parts}


def _shown(url: str) -> str:
    """Return an address as a message shows it: without what may be a secret in it."""
    bare = scrub(url.partition("?")[0].partition("#")[0])
    try:
        parts = urlsplit(bare)
        bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        pass
    return repr(bare if len(bare) <= 100 else f"{bare[:99]}…")


def _refusal(message: str, *, retryable: bool = False) -> InvalidRequest:
    return InvalidRequest(message, retryable=retryable)
