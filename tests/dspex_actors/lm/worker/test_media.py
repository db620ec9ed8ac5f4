"""Pictures are fetched for providers that take no addresses: from listed hosts, and from nowhere else."""

import asyncio
import base64
import contextlib
import socket

import orjson
import pytest

from dspex_actors import LM
from dspex_actors.errors import InvalidRequest, Overloaded
from dspex_actors.lm.wire.exchange import RawReply
from dspex_actors.lm.worker.media import Media
from dspex_actors.lm.worker.session import LMSession

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 40


class Server:
    """Answers every request with the same bytes, and notes the requests."""

    def __init__(self, answer, host="127.0.0.1"):
        self.answer, self.host, self.asked, self.port = answer, host, [], 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError):
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if callable(self.answer):
                await self.answer(writer)
            else:
                writer.write(self.answer)
            await writer.drain()
            writer.close()


def said(body, status="200 OK", *headers):
    return "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]).encode() + body


def message(*urls):
    return [{"role": "user", "content": [{"type": "text", "text": "?"}, *map(image, urls)]}]


def image(url):
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


async def refusal(media, *urls):
    with pytest.raises(InvalidRequest) as caught:
        await media.inlined("gemini", message(*urls))
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    return caught.value


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def test_a_picture_of_a_listed_host_is_given_as_its_bytes():
    async def go():
        async with Server(said(PNG)) as server:
            url = f"http://127.0.0.1:{server.port}/a.png?sig=1"
            media = Media([f"http://127.0.0.1:{server.port}"])
            asked = message(url, "data:image/png;base64,AAAA", url, "gs://bucket/a.png")
            found = await media.inlined("gemini", asked)
            return server.asked, asked, found

    requests, asked, found = run(go())
    data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    urls = [part["image_url"]["url"] for part in found[0]["content"][1:]]
    assert urls == [data, "data:image/png;base64,AAAA", data, "gs://bucket/a.png"]
    assert found[0]["content"][1]["image_url"]["detail"] == "low"
    assert asked[0]["content"][1]["image_url"]["url"].startswith("http:")  # the caller's own is as it was
    assert len(requests) == 1
    assert "cookie" not in requests[0].lower()
    assert "authorization" not in requests[0].lower()


def test_messages_without_addresses_are_passed_on_as_they_are():
    messages = [{"role": "user", "content": "see https://example.org/a.png"}, *message("data:image/png;base64,AAAA")]
    assert run(Media().inlined("gemini", messages)) is messages


def test_nothing_is_fetched_where_nothing_is_listed_and_the_error_says_what_to_set():
    async def go():
        async with Server(said(PNG)) as server:
            error = await refusal(Media(), f"http://127.0.0.1:{server.port}/a.png?token=abc")
            return error, server

    error, server = run(go())
    assert server.asked == []
    assert "providers.media_hosts" in str(error)
    assert f"'http://127.0.0.1:{server.port}'" in str(error)
    assert "token" not in str(error)
    assert error.retryable is False
    assert "'images.example.org'" in str(run(refusal(Media(), "https://images.example.org/a.png")))


HOSTILE = [
    "http://169.254.169.254/latest/meta-data",
    "https://metadata.google.internal/",
    "https://2852039166/",
    "https://0x7f.1/a.png",
    "https://[::ffff:169.254.169.254]/",
    "https://[fd00:ec2::254]/",
    "https://localhost/a.png",
    "https://127.0.0.1/a.png",
    "https://10.0.0.1/a.png",
    "https://192.168.0.1/a.png",
    "https://[::1]/a.png",
    "https://listed.example.org@127.0.0.1/a.png",
    "https://user:pw@listed.example.org/a.png",
    "https://listed.example.org:8443/a.png",
    "http://listed.example.org/a.png",
    "https://listed.example.org.evil.example/a.png",
    "https://evil.example/listed.example.org",
    "https://listed.example.org\\@evil.example/",
    "https://ｌisted.example.org/a.png",
    "https://listed。example。org/a.png",
    "ftp://listed.example.org/a.png",
    "file:///etc/passwd",
    "//listed.example.org/a.png",
    "https:///a.png",
    "https://listed.example.org:99999/",
    "javascript:alert(1)",
    "/etc/passwd",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_address_is_refused_before_anything_is_asked(url, monkeypatch):
    def nobody(*args, **options):
        raise AssertionError("a name was looked up")

    async def go():
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nobody)
        await refusal(Media(["listed.example.org"]), url)
        await refusal(Media(["listed.example.org"]), "https://listed.example.org/good.png", url)

    run(go())


def looked_up(*answers):
    """Stand in for the resolver: each look-up takes the next answer."""
    left, asked = list(answers), []

    async def getaddrinfo(host, port, **_):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in left.pop(0)]

    return getaddrinfo, asked


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["10.0.0.1"],
        ["100.100.100.200"],
        ["93.184.216.34", "127.0.0.1"],
        ["0.0.0.0"],
    ],
)
def test_a_listed_name_that_means_a_private_address_is_not_asked(addresses, monkeypatch):
    async def go():
        getaddrinfo, _ = looked_up(addresses)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        return await refusal(Media(["listed.example.org"]), "https://listed.example.org/a.png")

    assert "not on the open internet" in str(run(go()))


def test_a_name_is_looked_up_once_and_that_address_is_connected_to(monkeypatch):
    async def go():
        async with Server(said(PNG), "127.0.0.2") as good, Server(said(PNG), "127.0.0.3") as evil:
            getaddrinfo, asked = looked_up(["127.0.0.2"], ["127.0.0.3"])
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
            hosts = [f"http://rebinding.example:{good.port}", "127.0.0.2"]
            await Media(hosts).inlined("gemini", message(f"http://rebinding.example:{good.port}/a.png"))
            return good.asked, evil.asked, asked

    good, evil, names = run(go())
    assert len(good) == 1
    assert evil == []
    assert names == ["rebinding.example"]


async def endless(writer):
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"10000\r\n" + PNG[:8] + b"0" * (0x10000 - 8) + b"\r\n")
        await writer.drain()


async def silent(writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(60)


async def trickling(writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(1000):
        writer.write(b"\x89")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (said(b"", "302 Found", "location: http://127.0.0.1:1/secret"), "redirects are not followed"),
        (said(b"", "307 Temporary Redirect", "location: /other.png"), "redirects are not followed"),
        (said(PNG, "404 Not Found"), "status 404"),
        (said(PNG, "500 Oops"), "status 500"),
        (said(b"<html>root:x:0:0</html>"), "its bytes are text/html"),
        (said(b"root:x:0:0:root:/root:/bin/bash", "200 OK", "content-type: image/png"), "none that a picture"),
        (said(b"%PDF-1.4", "200 OK", "content-type: image/png"), "its bytes are application/pdf"),
        (said(b""), "none that a picture"),
        (said(PNG + b"0" * 2_000_000), "more than 1000000 bytes"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n" + PNG, "more than 1000000 bytes"),
        (endless, "more than 1000000 bytes"),
        (silent, "within 0.5 s"),
        (trickling, "within 0.5 s"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "no answer"),
        (said(PNG)[:-10], "no answer"),
    ],
)
def test_a_hostile_server_costs_a_line(answer, why):
    async def go():
        async with Server(answer) as server:
            media = Media([f"http://127.0.0.1:{server.port}"], most=1_000_000, seconds=0.5)
            return await refusal(media, f"http://127.0.0.1:{server.port}/a.png")

    assert why in str(run(go()))


def test_a_server_that_is_away_may_be_asked_again():
    async def go():
        async with Server(said(PNG)) as server:
            port = server.port
        return await refusal(Media([f"http://127.0.0.1:{port}"]), f"http://127.0.0.1:{port}/a.png")

    assert run(go()).retryable is True


def test_too_many_pictures_are_refused():
    urls = [f"https://listed.example.org/{number}.png" for number in range(65)]
    assert "more than 64" in str(run(refusal(Media(["listed.example.org"]), *urls)))


def test_a_list_that_is_updated_holds_at_once():
    media = Media(["listed.example.org"])
    media.allow([])
    assert "media_hosts" in str(run(refusal(media, "https://listed.example.org/a.png")))


GEMINI = {"candidates": [{"content": {"role": "model", "parts": [{"text": "a cat"}]}, "finishReason": "STOP"}]}


def test_gemini_is_sent_the_bytes_of_a_picture_at_a_listed_address(monkeypatch):
    bodies = []

    class Http:
        async def post(self, target, body):
            bodies.append(orjson.loads(body))
            return RawReply(200, {"content-type": "application/json"}, orjson.dumps(GEMINI))

    async def go():
        async with Server(said(PNG)) as server:
            lm = LM("gemini/gemini-2.5-flash", api_key=None, base_url="http://127.0.0.1:9")
            session = LMSession(lm._parts.deployment, http=Http())
            asked = message(f"http://127.0.0.1:{server.port}/a.png")
            with pytest.raises(InvalidRequest, match="media_hosts"):
                await session.complete(asked)
            monkeypatch.setattr("dspex_actors.lm.worker.pictures.MEDIA", Media([f"http://127.0.0.1:{server.port}"]))
            return await session.complete(asked)

    assert run(go()).text == "a cat"
    [body] = bodies
    data = {"mimeType": "image/png", "data": base64.b64encode(PNG).decode()}
    assert body["contents"][0]["parts"] == [{"text": "?"}, {"inlineData": data}]


def test_a_server_whose_name_means_a_metadata_service_is_not_asked(monkeypatch):
    async def go():
        lm = LM("openai/gpt-4o-mini", base_url="http://rebinding.example/v1")
        getaddrinfo, names = looked_up(*[["127.0.0.1", "169.254.169.254"]] * 3)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        session = LMSession(lm._parts.deployment)
        try:
            with pytest.raises(Overloaded, match="metadata service, which is never asked") as caught:
                await session.complete([{"role": "user", "content": "hi"}])
        finally:
            await session.aclose()
        return caught.value, names

    error, names = run(go())
    assert names == ["rebinding.example"]
    assert error.retryable is False
    assert error.__context__ is None


def test_a_redirect_of_a_language_model_server_is_not_followed():
    async def go():
        async with Server(said(b"")) as other:
            moved = said(b"", "307 Temporary Redirect", f"location: http://127.0.0.1:{other.port}/v1")
            async with Server(moved) as server:
                session = LMSession(LM("openai/m", base_url=f"http://127.0.0.1:{server.port}/v1")._parts.deployment)
                try:
                    with pytest.raises(InvalidRequest, match="redirects are never followed"):
                        await session.complete([{"role": "user", "content": "hi"}])
                finally:
                    await session.aclose()
                return other.asked

    assert run(go()) == []
