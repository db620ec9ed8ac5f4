"""What the environment says about certificates and proxies, and what comes of it."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dspex_actors.errors import ConfigError, LMError, Overloaded
from dspex_actors.lm.wire.exchange import RawReply
from dspex_actors.lm.worker import http
from dspex_actors.lm.worker.http import HttpClient, Target

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (*PROXIES, *map(str.lower, PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    http.tls.cache_clear()
    yield
    http.tls.cache_clear()


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a certificate for 127.0.0.1 that nobody but itself vouches for, and its key beside it."""
    folder = tmp_path_factory.mktemp("ca")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a CA of our own")])
    today = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    await writer.drain()
    writer.close()


async def _ask(url: str, *, secure: bool = True) -> RawReply:
    client = HttpClient(secure=secure)
    try:
        return await client.post(Target(url, {}), b"{}")
    finally:
        await client.aclose()


def ask_tls(pem: Path, *, secure: bool = True) -> RawReply:
    async def go() -> RawReply:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pem, pem.with_name("key.pem"))
        async with await asyncio.start_server(_answer, "127.0.0.1", 0, ssl=tls) as server:
            return await _ask(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", secure=secure)

    return asyncio.run(go())


def refused(scheme: str = "http") -> LMError:
    """Return the error of a request to a port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(Overloaded) as caught:
            asyncio.run(_ask(f"{scheme}://127.0.0.1:{port}/v1"))
    return caught.value


def test_a_ca_of_ones_own_is_trusted_where_the_environment_says_so(
    pem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Overloaded, match="not acceptable; for a CA of your own set SSL_CERT_FILE") as caught:
        ask_tls(pem)
    assert caught.value.retryable is False
    http.tls.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    assert ask_tls(pem).status == 200
    http.tls.cache_clear()
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with pytest.raises(Overloaded):
        ask_tls(pem)


def test_a_client_for_a_server_without_tls_reads_no_certificates_and_trusts_none(
    pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with pytest.raises(Overloaded):
        ask_tls(pem, secure=False)
    assert http.tls.cache_info().currsize == 0
    assert ask_tls(pem).status == 200


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_of_certificates_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE: expected certificates .*ca\.pem"):
        HttpClient()


@pytest.mark.parametrize(
    ("scheme", "environment", "named"),
    [
        ("http", {"HTTP_PROXY": "http://10.0.0.1:3128"}, "HTTP_PROXY"),
        ("http", {"http_proxy": "http://10.0.0.1:3128"}, "HTTP_PROXY"),
        ("https", {"https_proxy": "http://u:pw@10.0.0.1:3128"}, "HTTPS_PROXY"),
        ("https", {"ALL_PROXY": "socks5://10.0.0.1"}, "ALL_PROXY"),
        ("https", {"HTTP_PROXY": "http://10.0.0.1:3128"}, None),
        ("http", {"HTTP_PROXY": "http://10.0.0.1:3128", "NO_PROXY": "127.0.0.1"}, None),
        ("http", {}, None),
    ],
)
def test_an_error_of_a_connection_says_that_a_proxy_is_not_used(
    monkeypatch: pytest.MonkeyPatch, scheme: str, environment: dict[str, Any], named: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    error = refused(scheme)
    assert error.args == (error.message,)
    if named is None:
        assert "proxy" not in error.message.lower()
    else:
        assert f"; {named} is set, but requests never go through a proxy" in error.message
        assert "10.0.0.1" not in error.message
        assert "pw" not in error.message


#: A session of aiohttp, made as users make one, that asks a TLS server with the certificate `sys.argv[1]`.
_USERS_SESSION = """
import asyncio, pathlib, ssl, sys
from dspex_actors.lm.worker import http
import aiohttp

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
    await writer.drain()
    writer.close()

async def go():
    cert = pathlib.Path(sys.argv[1])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, cert.with_name("key.pem"))
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            async with aiohttp.ClientSession() as session, session.get(url) as reply:
                print(await reply.text())
        except aiohttp.ClientConnectorCertificateError as error:
            print(type(error).__name__)

print(*sorted({"click", "rich"} & sys.modules.keys()), ssl.create_default_context().cert_store_stats()["x509"] > 0)
asyncio.run(go())
"""


@pytest.mark.parametrize(("trusted", "answer"), [(True, "{}"), (False, "ClientConnectorCertificateError")])
def test_sessions_of_users_check_certificates_though_none_are_read_at_import(
    pem: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool, answer: str
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    done = subprocess.run([sys.executable, "-c", _USERS_SESSION, pem], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True", answer]
