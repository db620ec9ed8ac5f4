"""A node that has its journal in a PostgreSQL server, which dies in the middle of a run and comes back."""

import contextlib
import json
import os
import signal
import sys

import psutil
import pytest
import warm
from e2e_kit import Background, Host, check_whole, metric, tickets, triage, until
from postgres_kit import postgres_of_module

import dspex_actors as dspex
from dspex_actors.client.connect import connect
from dspex_actors.journal.opening import choose_journal
from supervisors.client.launch import node_runs

postgres = postgres_of_module()


def command(*arguments, **env):
    line = [sys.executable, "-m", "dspex_actors", *map(str, arguments)]
    return warm.run(line, capture_output=True, text=True, timeout=120, env={**os.environ, **env})


@contextlib.contextmanager
def stands_still(pid):
    """Stop a process and those that it has started, and have them go on."""
    all_of_it = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for one in all_of_it:
        one.suspend()
    try:
        yield
    finally:
        for one in all_of_it:
            one.resume()


def refused(journal, home, *words):
    done = command("start", "--journal", journal)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
    assert not node_runs(home)
    assert not (home / "node.json").exists()
    return done.stderr


@pytest.mark.soak
def test_a_run_goes_on_when_its_server_comes_back_and_bad_servers_start_nothing(postgres, server, home):
    refused("postgresql://dspex@127.0.0.1:1/db", home, "does not answer")
    assert "s3cret" not in refused("postgresql://dspex:s3cret@127.0.0.1/db", home, "~/.pgpass")
    address = f"{postgres.address}?password=env:JOURNAL_PASSWORD"
    refused(address, home, "JOURNAL_PASSWORD")
    postgres.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
    refused(postgres.address, home, "read-only")
    postgres.execute("ALTER DATABASE postgres RESET default_transaction_read_only")

    started = command("start", "--workers", 2, "--journal", address, JOURNAL_PASSWORD="n0t-shown")
    assert started.returncode == 0, started.stderr
    os.environ["JOURNAL_PASSWORD"] = "n0t-shown"
    try:
        answering = server("--latency-ms", 60)
        with connect(lm=answering.lm()) as system:
            assert system.data_dir == home
            run = Background(
                dspex.evaluate, triage(), tickets(600), metric(), max_in_flight=20, run_id="far", system=system
            )
            until(lambda: (row := system.journal.get_run("far")) and row.done > 100)
            postgres.kill()
            before = answering.requests
            until(lambda: answering.requests > before or answering.stats())
            refused_while_away = command("runs", "--json")
            assert refused_while_away.returncode != 0
            assert "does not answer" in refused_while_away.stderr
            postgres.start()
            result = run.result(120)
            check_whole(result, 600)
            row = system.journal.get_run("far")
            assert (row.done, row.state) == (600, "finished")
            assert row.asked == answering.requests  # nothing lost, nothing twice
            assert postgres.execute("SELECT count(*) FROM dspex.results") == [(600,)]
            [listed] = json.loads(command("runs", "--json").stdout)
            assert (listed["run_id"], listed["done"]) == ("far", 600)
            again = command("start", "--journal", "sqlite")
            assert (again.returncode, "dspex stop" in again.stderr) == (2, True)
            logs = [path.read_text(errors="replace") for path in home.rglob("*.log")]
            said = [
                *logs,
                command("tree").stdout,
                (home / "journal.json").read_text(),
                row.spec.lm and str(row.spec.lm),
            ]
            assert not [text for text in said if text and "n0t-shown" in text]
        assert command("stop").returncode == 0
        # The node comes back with the journal that it was told, without being told again.
        assert command("start", "--workers", 2).returncode == 0
        [listed] = json.loads(command("runs", "--json").stdout)
        assert listed["state"] == "finished"
    finally:
        command("stop")
        del os.environ["JOURNAL_PASSWORD"]


@pytest.mark.soak
def test_status_says_that_the_server_is_away_and_a_probe_leaves_the_node_alone(postgres, home):
    assert command("start", "--workers", 1, "--journal", postgres.address).returncode == 0
    try:
        assert json.loads(command("status", "--json").stdout)["journal"]["state"] == "well"
        postgres.kill()
        for _ in range(2):
            told = command("status")
            assert (told.returncode, told.stderr) == (1, "")  # degraded: not ready, and not restarted
            said = " ".join(told.stdout.split())
            assert said.index("degraded") < said.index("does not answer") < said.index("go on by themselves")
        found = json.loads(command("status", "--json").stdout)
        assert (found["state"], found["journal"]["state"], found["journal"]["place"]) == ("degraded", "away", "server")
        assert found["journal"]["since"] > 1e9
        assert "postgresql://dspex@127.0.0.1" in found["notes"][-1]
        postgres.start()
        back = json.loads(command("status", "--json").stdout)
        assert (back["state"], back["notes"], back["journal"]["since"]) == ("healthy", [], None)
    finally:
        command("stop")
        if postgres.process is None:
            postgres.start()


@pytest.mark.soak
def test_a_server_that_stands_still_is_told_and_the_run_loses_nothing(postgres, server, home):
    postgres.empty()
    assert command("start", "--workers", 2, "--journal", postgres.address).returncode == 0
    try:
        answering = server("--latency-ms", 60)
        with connect(lm=answering.lm()) as system:
            run = Background(
                dspex.evaluate, triage(), tickets(600), metric(), max_in_flight=8, run_id="still", system=system
            )
            until(lambda: (row := system.journal.get_run("still")) and row.done > 50)
            with stands_still(postgres.process.pid):
                told = command("status")
                assert (told.returncode, told.stderr) == (1, "")
                assert "does not answer" in told.stdout
                assert "go on by themselves" in " ".join(told.stdout.split())
                assert "keeper" not in told.stdout
            check_whole(run.result(120), 600)
            row = system.journal.get_run("still")
            assert (row.state, row.asked, answering.requests) == ("finished", 600, 600)
        assert json.loads(command("status", "--json").stdout)["state"] == "healthy"
    finally:
        command("stop")


@pytest.mark.soak
def test_a_run_of_a_node_that_stands_still_goes_on_at_another_and_the_first_one_writes_no_more(
    postgres, server, tmp_path, monkeypatch
):
    postgres.empty()
    answering = server("--latency-ms", 40)
    homes = [tmp_path / "one", tmp_path / "two"]
    hosts = []
    try:
        for home in homes:
            choose_journal(home, postgres.address, runs=False)
            hosts.append(Host(home).start())
        monkeypatch.setenv("DSPEX_HOME", str(homes[0]))
        with connect(lm=answering.lm()) as first:
            attached = Background(
                dspex.evaluate, triage(), tickets(300), metric(), max_in_flight=8, run_id="far", system=first
            )
            until(lambda: (row := first.journal.get_run("far")) and row.done > 50)
            stopped = hosts[0].pids()
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            try:
                monkeypatch.setenv("DSPEX_HOME", str(homes[1]))
                [seen] = json.loads(command("runs", "--json").stdout)
                assert seen["state"] == "running"  # as far as anybody but its node knows
                refused = command("runs", "resume", "far", "--quiet")
                assert refused.returncode == 2
                assert "--force-resume" in refused.stderr
                resumed = command("runs", "resume", "far", "--quiet", "--force-resume", "--json")
                assert resumed.returncode == 0, resumed.stderr
                before = postgres.execute("SELECT done, asked, seq, claimed, owner FROM dspex.runs")
            finally:
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)
            # Whoever waits at the first node has the result of the second; what that one still had in hand is refused.
            check_whole(attached.result(60), 300)
            until(lambda: "run:far" not in str(first.node.tree()))
            assert postgres.execute("SELECT done, asked, seq, claimed, owner FROM dspex.runs") == before
            assert before[0][0] == 300
            assert before[0][3] == 1
            assert postgres.execute("SELECT count(*) FROM dspex.results") == [(300,)]
            assert first.journal.get_run("far").state == "finished"
    finally:
        for host in hosts:
            host.close()


@pytest.mark.soak
def test_whoever_is_killed_while_the_server_is_away_goes_on_when_it_is_back(postgres, server, tmp_path, monkeypatch):
    postgres.empty()
    answering = server("--latency-ms", 60)
    home = tmp_path / "node"
    choose_journal(home, postgres.address, runs=False)
    host = Host(home).start()
    monkeypatch.setenv("DSPEX_HOME", str(home))
    try:
        with connect(lm=answering.lm()) as system:
            run = Background(
                dspex.evaluate, triage(), tickets(300), metric(), max_in_flight=8, run_id="far", system=system
            )
            until(lambda: (row := system.journal.get_run("far")) and row.done > 50)
            postgres.kill()
            for what in ("run:far", "runs"):
                before = host.pid_of(system.node, what)
                host.kill(what, system.node)
                until(lambda what=what, before=before: pid_or_none(host, system, what) not in (None, before))
            assert run.alive
            postgres.start()
            check_whole(run.result(120), 300)
            assert postgres.execute("SELECT done, state FROM dspex.runs") == [(300, "finished")]
    finally:
        host.close()


def pid_or_none(host, system, what):
    try:
        return host.pid_of(system.node, what)
    except StopIteration:
        return None
