"""The server as a program: what it prints and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest
import warm
from embedded_http import PROVIDERS


def test_the_program_says_where_it_listens_and_what_it_did() -> None:
    command = [sys.executable, "-m", "dspex_actors.embedded", "--fault", "hang=0.01", "--latency-ms", "1"]
    with warm.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        opening = process.stdout.readline()
        assert opening.startswith("serving openai http://127.0.0.1:")
        assert all(provider in opening for provider in PROVIDERS)
        os.kill(process.pid, signal.SIGTERM)
        closing, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert closing.startswith("stopped: 0 requests, 0 answered")
    assert closing.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--fault", "fire=1"], ["--fault", "hang"]])
def test_a_misused_program_says_so_in_one_line(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "dspex_actors.embedded", *arguments]
    done = warm.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_a_taken_port_is_one_line_and_status_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "dspex_actors.embedded", "--port", str(port)]
        done = warm.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"port {port} on 127.0.0.1 is taken by another program: choose another port, or 0 for any free one\n"
    )
