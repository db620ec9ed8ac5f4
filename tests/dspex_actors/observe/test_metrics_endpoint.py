"""`/metrics`: the text is one that Prometheus reads, and the port answers nothing else, to nobody for long."""

import asyncio
import socket

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from dspex_actors.foundation.telemetry.merge import Book, Source
from dspex_actors.foundation.telemetry.recorder import Recorder
from dspex_actors.observe.telemetry import endpoint, prometheus
from dspex_actors.observe.telemetry.endpoint import Endpoint


def page(fill):
    recorder, book = Recorder(), Book()
    fill(recorder)
    book.tell("x", Source("w", 1, 1), recorder.take())
    text = prometheus.page(book.whole()).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_every_kind_is_shown_as_prometheus_has_it():
    def fill(recorder):
        recorder.counter("c.d", who='a"b\\c\nd', le="1").add(3)
        recorder.gauge("g").add(-2.5)
        recorder.summary("s").add(4)
        for value in (0.003, 0.04, 0.04, 7.0):
            recorder.histogram("h", quantile="q").add(value)

    found = page(fill)
    (counter,) = found["dspex_c_d"].samples
    assert (counter.name, counter.value) == ("dspex_c_d_total", 3.0)
    assert counter.labels == {"who": 'a"b\\c\nd', "le_": "1"}
    assert found["dspex_g"].samples[0].value == -2.5
    assert [sample.value for sample in found["dspex_s"].samples if "quantile" in sample.labels] == [4.0, 4.0, 4.0]
    buckets = {sample.labels["le"]: sample.value for sample in found["dspex_h"].samples if "le" in sample.labels}
    assert [buckets[bound] for bound in ("0.001", "0.005", "0.05", "5", "10", "+Inf")] == [0, 1, 3, 3, 4, 4]
    assert list(buckets.values()) == sorted(buckets.values())
    totals = {sample.name: sample.value for sample in found["dspex_h"].samples if "le" not in sample.labels}
    assert totals == {"dspex_h_count": 4.0, "dspex_h_sum": pytest.approx(7.083)}
    assert {sample.labels["quantile_"] for sample in found["dspex_h"].samples} == {"q"}


def test_names_that_become_one_are_told_apart():
    def fill(recorder):
        recorder.counter("a.b", **{"x.y": 1, "x_y": 2}).add(1)
        recorder.counter("a_b").add(2)

    found = page(fill)
    assert {name: family.samples[0].value for name, family in found.items()} == {"dspex_a_b": 1.0, "dspex_a_b_": 2.0}
    assert found["dspex_a_b"].samples[0].labels == {"x_y": "1", "x_y_": "2"}


def test_a_page_is_bounded_and_says_what_it_left_out(monkeypatch):
    monkeypatch.setattr(prometheus, "MOST_SERIES", 5)

    def fill(recorder):
        for name in "abc":
            for number in range(4):
                recorder.counter(name, number=number).add()

    found = page(fill)
    assert found["dspex_series_left_out"].samples[0].value == 7
    assert sum(len(family.samples) for family in found.values()) == 5 + 1


async def ask(port, request):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return answer


def serving(talk):
    """Run `talk(port)` while an endpoint serves."""

    async def text():
        return b"a_total 1.0\n"

    async def run():
        one = Endpoint(text, structlog.get_logger())
        await one.serve(0)
        port = one._server.sockets[0].getsockname()[1]
        try:
            return await talk(port)
        finally:
            await one.serve(None)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: localhost:9100\r\n\r\n", b"200 OK"),
        (b"GET /metrics HTTP/1.1\r\nhost:127.0.0.1\r\n\r\n", b"200 OK"),
        (b"GET /metrics HTTP/1.1\r\nHost: [::1]:9100 \r\n\r\n", b"200 OK"),
        (b"GET /metrics HTTP/1.1\r\nHost: rebound.example:9100\r\n\r\n", b"403 Forbidden"),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: rebound.example\r\n\r\n", b"403 Forbidden"),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost.example\r\n\r\n", b"403 Forbidden"),
        (b"GET /metrics?name=a HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405 Method Not Allowed"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /metrics/../x HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"\r\n\r\n", b"404 Not Found"),
        (b"\x00\xff nonsense\r\n\r\n", b"404 Not Found"),
    ],
)
def test_only_get_metrics_is_answered(request_, status):
    answer = serving(lambda port: ask(port, request_))
    assert answer.split(b"\r\n", 1)[0] == b"HTTP/1.1 " + status
    assert (b"a_total" in answer) == (status == b"200 OK")


def test_a_stranger_that_says_too_much_or_nothing_is_left(monkeypatch):
    monkeypatch.setattr(endpoint, "REQUEST_SECONDS", 0.2)

    async def talk(port):
        return await asyncio.gather(*(_quiet(ask(port, said)) for said in (b"GET /" + b"x" * 100_000, b"GET /metrics")))

    assert serving(talk) == [b"", b""]


async def _quiet(asking):
    try:
        return await asking
    except ConnectionError:
        return b""


def test_so_many_are_answered_at_once_and_others_left(monkeypatch):
    monkeypatch.setattr(endpoint, "MOST_AT_ONCE", 2)

    async def talk(port):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        answer = await _quiet(ask(port, b"GET /metrics HTTP/1.1\r\n\r\n"))
        for _, writer in silent:
            writer.close()
        while not answer:  # their places are free again
            answer = await _quiet(ask(port, b"GET /metrics HTTP/1.1\r\n\r\n"))
            yielded.append(answer)
        return answer

    yielded = []
    assert b"200 OK" in serving(talk)
    assert yielded


def test_a_taken_port_is_said_and_had_as_soon_as_it_is_free(monkeypatch):
    monkeypatch.setattr(endpoint, "AGAIN_SECONDS", 0.01)

    async def run():
        with structlog.testing.capture_logs() as said:
            one = Endpoint(lambda: asyncio.sleep(0, b""), structlog.get_logger())
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                port = taken.getsockname()[1]
                serving_ = asyncio.create_task(one.serve(port))
                while not said:  # noqa: ASYNC110 - a log has no events
                    await asyncio.sleep(0)
            await asyncio.wait_for(serving_, 30)
            await one.serve(None)
        return port, said

    port, said = asyncio.run(run())
    assert [line["log_level"] for line in said] == ["error", "info"]
    assert f"port {port} cannot be had" in said[0]["event"]
