import json
import os

import pytest

from supervisors.host import security_log
from supervisors.host.security_log import SecurityLog


@pytest.fixture
def now():
    return [1000.0]


def test_one_line_per_source_and_minute_tells_what_was_left_out(now):
    lines = []
    log = SecurityLog(lines.append, lambda: now[0])
    for _ in range(50):
        log.note("refused frame", "10.0.0.1", "why")
    log.note("refused frame", "10.0.0.2")
    assert [json.loads(line)["source"] for line in lines] == ["10.0.0.1", "10.0.0.2"]
    now[0] += 60
    log.note("refused frame", "10.0.0.1")
    assert json.loads(lines[-1])["suppressed"] == 49


def test_many_sources_fill_neither_the_file_nor_the_memory(now):
    lines = []
    log = SecurityLog(lines.append, lambda: now[0])
    for i in range(10_000):
        log.note("refused frame", f"127.0.{i // 256}.{i % 256}")
    assert len(lines) == security_log.BURST
    assert len(log._sources) == security_log.SOURCES


def test_the_file_is_private_and_a_broken_one_is_survived(tmp_path, monkeypatch):
    path = tmp_path / "security"
    monkeypatch.setenv(security_log.LOG_ENV, str(path))
    SecurityLog().note("a", "10.0.0.1", 'quote " and\nnewline')
    assert path.stat().st_mode & 0o777 == 0o600
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["pid"] == os.getpid()
    monkeypatch.setenv(security_log.LOG_ENV, str(tmp_path / "missing" / "security"))
    SecurityLog().note("a", "10.0.0.1")
