"""What is at an address, for whoever asks for it by `from_url`; nobody else here fetches."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import urllib.error
import urllib.request
from typing import Any

from dspex_actors.foundation import media
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.lm.hosts import is_metadata
from dspex_actors.types.files import MOST, is_address


def fetched(what: str, url: str, *, verify: bool, timeout: float | None) -> tuple[bytes, str | None]:
    """Return what is at an address, and the media type that its server tells.

    Redirects are followed as by DSPy, but not from https to http, and never to where clouds hand out credentials.

    Raises:
        ConfigValueError: no such address, or no answer that can be used.
    """
    if not isinstance(url, str) or not is_address(url):
        raise ConfigValueError(f"{what}.from_url requires an HTTP(S) URL, received: {media.shortened(url)}")
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(_Http(), _Https(context=context), _Redirects())
    problem = ""
    try:
        with opener.open(url, timeout=timeout) as answer:
            data: bytes = answer.read(MOST + 1)
            told = str(answer.headers.get("Content-Type") or "").split(";")[0].strip().lower()
            length = answer.headers.get("Content-Length") or ""
        if len(data) > MOST:
            problem = f"more than {MOST} bytes"
        elif length.isdecimal() and len(data) < int(length):
            problem = f"no answer: it broke off after {len(data)} bytes"
        else:
            return data, told or None
    except urllib.error.HTTPError as error:
        problem = f"status {error.code}"
    except urllib.error.URLError as error:
        problem = f"no answer: {error.reason}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        problem = f"no answer: {error or type(error).__name__}"
    raise ConfigValueError(f"{what}.from_url: {media.shortened(url)} gives {' '.join(problem.split())[:200]}")


def _connect(address: tuple[str, int], timeout: Any = None, source_address: Any = None, **_: Any) -> socket.socket:
    """Connect to a host at an address that was looked at."""
    host, port = address
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if any(is_metadata(str(place[4][0])) for place in found) or is_metadata(host):
        raise OSError("this address is a cloud's metadata service, which is never asked")
    problem: OSError | None = None
    for place in found:
        try:
            literal = str(ipaddress.ip_address(str(place[4][0]).partition("%")[0]))
            return socket.create_connection((literal, port), timeout, source_address)
        except OSError as error:
            problem = error
    raise problem or OSError("the name has no address")


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_connecting(http.client.HTTPConnection), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._tls = context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_connecting(http.client.HTTPSConnection), req, context=self._tls)


def _connecting(kind: Any) -> Any:
    def make(*args: Any, **options: Any) -> Any:
        connection = kind(*args, **options)
        connection._create_connection = _connect
        return connection

    return make


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        schemes = ("https:",) if req.full_url.lower().startswith("https:") else ("https:", "http:")
        if not newurl.lower().startswith(schemes):
            raise urllib.error.URLError("a redirect to another scheme, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
