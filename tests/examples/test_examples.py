"""Every example runs by itself, as a user starts it, and does what it says."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import warm

from supervisors.testing import wait_until

pytestmark = pytest.mark.soak
EXAMPLES = Path(__file__).parents[2] / "examples"
#: What an example ends with where the machine does not allow what it shows.
NOT_HERE = 3


def start(name, *words, **options):
    return warm.Popen([sys.executable, EXAMPLES / name, *map(str, words)], stdout=subprocess.PIPE,
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


def test_answers_are_read_as_they_come(tmp_path, monkeypatch):
    monkeypatch.setenv("DSPEX_HOME", str(tmp_path))
    output = run("streaming.py")
    assert "put a supervisor over it.\n28 tokens\n" in output
    assert "3 pieces were enough\n" in output
    assert "(asking)\nWho| restarts| is| not| lost.|\nmoral: Who restarts is not lost.\n" in output


def test_a_durable_workflow_goes_on_after_its_last_finished_step():
    output = run("workflow.py", "--fail")
    assert output.count("answer\n") == 2
    assert "step 'answer' of 'ticket' failed: ConnectionError: the mail server hung up" in output
    output = run("workflow.py")
    assert output == (
        "answer\nfetch: restored\ntriage: restored\ncount: restored\nanswer: completed\n"
        "To billing: The invoice of May is wrong, and nobody answers. (9 words)\n"
    )


def test_a_picture_is_seen_and_tools_are_called():
    assert run("tools.py") == (
        "red, in 75 bytes\ncalled: Turin: sun for 3 days\nPack light. Turin: sun for 3 days (2 turns)\n"
    )


def test_a_search_that_breaks_down_is_left_alone_until_it_is_back(tmp_path, monkeypatch):
    monkeypatch.setenv("DSPEX_HOME", str(tmp_path))
    told = re.search(r"100 answers, (\d+) calls in vain", run("protection.py"))
    # 8 that were under way when it went, three that opened the circuit, and a probe every 0.2 s.
    assert 3 <= int(told[1]) <= 25


def test_an_event_of_ones_own_is_found_and_stands_in_its_tree():
    output = run("events.py")
    assert output == (
        "search: 2 hits, in order-17\nsearch: 0 hits, in order-17\n"
        "operation.started\n  ToolUsed\n  ToolUsed\n  ToolUsed\n  operation.completed\n"
    )


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
        assert process.wait(60) == 0
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


def test_an_ecosystem_serves_many_callers_and_outlives_a_member():
    output = run("ecosystem.py")
    assert "one ticket goes to billing@support.example" in output
    assert "40 callers, 8 LM calls" in output
    assert output.count("refused: ") == 3
    assert "the processor was killed: the team is bugs" in output


@pytest.mark.nemesis
@pytest.mark.timeout(700)
def test_a_host_is_cut_off_in_the_middle_of_a_run_and_the_run_does_not_notice():
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "two_hosts.py"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = process.communicate(timeout=600)
    finally:
        process.terminate()  # it removes what it has made
        process.wait(60)
    if process.returncode == NOT_HERE:
        pytest.skip(output.strip().splitlines()[-1])
    assert process.returncode == 0, output
    assert re.search(r"one +alive +full +10\.77\.1\.2:7400", output)
    assert re.search(r"\d+ done … .* the cable of two is cut\n +two is down for one", output)
    assert "every example has one result: 400 of 400, 0 failed" in output
    assert "two is up again by itself" in output
    assert output.endswith("The run did not notice.\n")
