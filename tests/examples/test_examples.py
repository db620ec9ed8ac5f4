"""Every example runs by itself, as a user starts it, and does what it says."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from supervisors.testing import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"


def start(name, *words, **options):
    return subprocess.Popen([sys.executable, EXAMPLES / name, *map(str, words)], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, **options)  # fmt: skip


def deaf():
    """Ignore SIGINT, as a shell or nohup has it for what runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run(name, *words, status=0):
    process = start(name, *words)
    try:
        output, _ = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == status, output
    assert "Traceback" not in output
    return output


def test_a_counter_is_restarted_until_it_is_too_much():
    output = run("counter.py")
    assert re.search(r"add 5 +-> 105", output)
    assert "ZeroDivisionError" in output
    assert re.search(r"add 1 +-> 101", output)
    assert re.search(r"add 2 +-> 102", output)
    assert "the supervisor ended, shutdown" in output
    assert output.count("child_terminated") == 3
    assert output.count("reached_max_restart_intensity") == 1


def test_clients_of_the_line_server_do_not_notice_that_handlers_are_killed():
    output = run("line_server.py")
    assert "killed 15 handlers" in output
    assert " 0 wrong or missing" in output


def test_the_line_server_serves_until_it_is_interrupted():
    process = start("line_server.py", "--serve", env=os.environ | {"PYTHONUNBUFFERED": "1"}, preexec_fn=deaf)
    try:
        port = int(re.search(r"port (\d+)", process.stdout.readline())[1])
        with socket.create_connection(("127.0.0.1", port), 10.0) as connection:
            connection.sendall(b"half a")
            time.sleep(0.05)  # not a wait for anything: the line is to come in two pieces
            connection.sendall(b" line\nand ")
            assert connection.makefile("r").readline() == "HALF A LINE\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_no_job_is_lost_and_none_is_done_twice_without_saying_so():
    output = run("job_queue.py")
    assert "150 jobs" in output
    assert "killed meanwhile: 9 workers, 3 times the queue" in output
    assert "0 unsaid" in output
    assert "lost: 0" in output
    assert "(deadly) was begun 3 times: set aside" in output


def test_a_queue_goes_on_where_a_killed_program_has_left_it(tmp_path):
    file, done = tmp_path / "jobs.sqlite", tmp_path / "done.txt"
    first = start("job_queue.py", "--jobs", file)
    try:
        wait_until(lambda: done.exists() and len(done.read_text().splitlines()) >= 10, 30.0, 0.01)
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()
    output = run("job_queue.py", "--jobs", file)
    assert "150 jobs" in output
    assert "0 unsaid" in output
    assert "lost: 0" in output


def test_no_helper_of_the_pool_leaks():
    output = run("pool.py")
    assert " 120 jobs: right" in output
    assert "   5 jobs: its helper died" in output
    assert "   3 jobs: took too long" in output
    assert "after: 2 idle, 0 out, 0 waiting" in output
