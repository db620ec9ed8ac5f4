"""`from_url`: fetches what its caller names, within bounds, and never from where clouds hand out credentials."""

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from dspex_actors.types import fetching

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 40
WAV = b"RIFF$\x00\x00\x00WAVEfmt " + b"0" * 30


@contextlib.contextmanager
def serving(status=200, body=PNG, **headers):
    """Serve one answer; give the address and the paths that were asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value.format(self=self))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/a.png", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_what_is_there_is_kept_as_what_it_is():
    with serving(content_type="text/plain") as (url, asked):
        assert dspex.Image.from_url(url) == dspex.Image(PNG)
        assert dspex.Image.from_url(url, verify=False, timeout=None) == dspex.Image(PNG)
    assert asked == ["/a.png"] * 2
    with serving(body=WAV, content_type="audio/x-wav") as (url, _):
        assert dspex.Audio.from_url(url) == dspex.Audio(WAV)


def test_redirects_are_followed_as_by_dspy():
    with serving() as (there, asked), serving(302, location=there) as (url, _):
        assert dspex.Image.from_url(url) == dspex.Image(PNG)
    assert asked == ["/a.png"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"status": 302, "location": "http://169.254.169.254/latest"}, "metadata service, which is never asked"),
        ({"status": 302, "location": "http://2852039166/latest"}, "metadata service, which is never asked"),
        ({"status": 302, "location": "file:///etc/passwd"}, "gives"),
        ({"status": 302, "location": "ftp://127.0.0.1/a.png"}, "another scheme"),
        ({"status": 404}, "status 404"),
        ({"body": b"<html>root</html>", "content_type": "image/png"}, "expected the bytes of an image"),
        ({"body": b"", "content_type": "image/png"}, "expected the bytes of an image"),
        ({"body": PNG + b"0" * 2000}, "more than 1000 bytes"),
        ({"content_length": "9", "body": b""}, "gives no answer"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(answer, why, monkeypatch):
    monkeypatch.setattr(fetching, "MOST", 1000)
    with serving(**answer) as (url, _), pytest.raises(ConfigError, match=why) as caught:
        dspex.Image.from_url(url)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://[::ffff:169.254.169.254]/",
        "http://metadata.google.internal/",
        "http://[fd00:ec2::254]/",
    ],
)
@pytest.mark.parametrize("kind", [dspex.Image, dspex.Audio])
def test_metadata_services_are_never_asked(kind, url, monkeypatch):
    def nobody(*args, **options):
        raise AssertionError("somebody was asked")

    monkeypatch.setattr(socket, "create_connection", nobody)
    with pytest.raises(ConfigError, match=r"never asked|gives no answer"):
        kind.from_url(url)


def test_a_name_is_looked_up_once(monkeypatch):
    answers = [["127.0.0.1"], ["169.254.169.254"]]

    def getaddrinfo(host, port, *args, **options):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port)) for place in answers.pop(0)]

    with serving() as (url, _):
        connect = socket.socket.connect
        reached = []
        monkeypatch.setattr(socket.socket, "connect", lambda self, place: (reached.append(place), connect(self, place)))
        monkeypatch.setattr(fetching.socket, "create_connection", _direct)
        monkeypatch.setattr(fetching.socket, "getaddrinfo", getaddrinfo)
        port = url.rsplit(":", 1)[1].partition("/")[0]
        assert dspex.Image.from_url(f"http://rebinding.example:{port}/a.png") == dspex.Image(PNG)
    assert [place[0] for place in reached] == ["127.0.0.1"]
    assert len(answers) == 1


def _direct(address, timeout=None, source_address=None):
    made = socket.socket()
    made.connect(address)
    return made


@pytest.mark.parametrize("url", ["", "cat.png", "ftp://x/a", "file:///etc/passwd", "http://", "http://a b/", 3, None])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ConfigError, match="requires an HTTP"):
        dspex.Image.from_url(url)
