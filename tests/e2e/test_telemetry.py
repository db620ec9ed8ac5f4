"""Telemetry over a whole node: what is counted in workers, evaluators and programs is one table, whoever is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
import warm
from e2e_kit import metric, run_script, tickets, triage, until
from prometheus_client.parser import text_string_to_metric_families

import dspex_actors as dspex
from dspex_actors.foundation import telemetry
from dspex_actors.names import TELEMETRY
from dspex_actors.observe.reporting import report_from_actor
from dspex_actors.observe.telemetry.actor import FILE, SETTINGS
from dspex_actors.observe.telemetry.messages import Await, Read, Tell
from supervisors import ChildSpec, GenServer, SupervisorSpec
from supervisors.errors import SupervisorsError


class Counting(GenServer):
    def init(self, name):
        self.by = name
        report_from_actor(self)

    def handle_call(self, request, caller):
        telemetry.counter("kills.counted", request, by=self.by)
        return os.getpid()


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """One node for all tests here."""
    home = tmp_path_factory.mktemp("telemetry") / "home"
    with dspex.connect(lm="embedded/nearest", home=home, workers=2) as connection:
        yield connection


def total(system, name, **tags):
    rows = system.telemetry.metrics(name).get(name, [])
    return sum(row["sum"] for row in rows if tags.items() <= row["tags"].items())


def killed(system, name):
    ref = system.node.whereis(name)
    os.kill(ref.pid, signal.SIGKILL)
    return ref


@pytest.mark.soak
def test_a_node_on_which_nothing_is_recorded_has_no_actor_for_it(tmp_path):
    script = """
import sys, dspex_actors as dspex
from dspex_actors.names import TELEMETRY
with dspex.connect(lm="embedded/nearest", home=sys.argv[1], workers=1) as connection:
    rows = [{"ticket": f"number {n}", "team": "billing"} for n in range(20)]
    triage, metric = dspex.Predict("ticket -> team"), dspex.metrics.exact_match("team")
    dspex.evaluate(triage, rows, metric=metric, system=connection, display_progress=False)
    print(connection.telemetry.metrics(), connection.node.whereis(TELEMETRY))
"""
    # A program of its own: this one has recorded what other tests did.
    words = [sys.executable, "-c", script, str(tmp_path / "home")]
    done = subprocess.run(words, env=os.environ | {"DSPEX_TELEMETRY": "0"}, capture_output=True, text=True, check=True)
    assert done.stdout == "{} None\n"


@pytest.mark.soak
def test_what_a_run_did_is_in_the_metrics_right_after_it_and_is_what_the_journal_says(system):
    before = {name: total(system, name) for name in ("module.execution.success", "run.examples")}
    used = {kind: total(system, "lm.request.tokens", kind=kind) for kind in ("input", "output")}
    result = dspex.evaluate(triage(), tickets(300), metric=metric(), system=system)
    found = system.telemetry.metrics()
    assert total(system, "module.execution.success") - before["module.execution.success"] == 300
    assert total(system, "run.examples", outcome="succeeded") - before["run.examples"] == result.succeeded
    for kind, before_ in used.items():
        assert total(system, "lm.request.tokens", kind=kind) - before_ == result.usage[f"{kind}_total"]
    (duration,) = found["lm.request.duration"]
    assert duration["count"] == result.asked
    assert 0 < duration["min"] <= duration["p50"] <= duration["p90"] <= duration["p99"] <= duration["max"]
    assert found["module.execution.success"][0]["rate"] > 0


def test_by_actor_the_workers_are_told_apart(system):
    dspex.evaluate(triage(), tickets(100), metric=metric(), system=system)
    found = system.telemetry.metrics("module.", by_actor=True)
    assert {"worker-1", "worker-2"} <= set(found)
    counts = {
        actor: sum(row["sum"] for row in rows.get("module.execution.success", ())) for actor, rows in found.items()
    }
    assert counts["worker-1"] + counts["worker-2"] >= 100
    assert sum(counts.values()) == total(system, "module.execution.success")  # this program has called some, too


def test_progress_of_a_run_is_a_gauge_while_it_runs_and_gone_with_its_evaluator(system, tmp_path):
    was_seen, seen = str(tmp_path / "seen"), set()

    def last_ones_wait(example, prediction, trace=None):
        number = int(example.ticket.split()[1])
        return number < 700 or until(lambda: os.path.exists(was_seen))

    def look(summary):
        seen.update(row["value"] for row in system.telemetry.metrics("run.").get("run.done", ()))
        if seen - {0}:
            open(was_seen, "w").close()

    dspex.evaluate(triage(), tickets(800), metric=last_ones_wait, system=system, on_progress=look)
    assert seen - {0}
    assert max(seen) <= 800
    until(lambda: "run.done" not in system.telemetry.metrics("run."))


@pytest.mark.soak
def test_totals_stay_when_the_actor_is_killed(system):
    dspex.evaluate(triage(), tickets(50), metric=metric(), system=system)
    system.telemetry.counter("kept", 3)
    before = system.telemetry.metrics()
    for _ in range(3):
        old = killed(system, TELEMETRY)
        after = system.telemetry.metrics()
        assert system.node.whereis(TELEMETRY) != old
        for name in ("kept", "module.execution.success", "lm.request.tokens", "run.examples"):
            assert [row["sum"] for row in after[name]] == [row["sum"] for row in before[name]], name


def test_a_broken_file_is_no_reason_not_to_start(system):
    system.telemetry.counter("kept", 1)
    system.telemetry.metrics("kept")
    kept = total(system, "kept")
    old = system.node.whereis(TELEMETRY)
    os.kill(old.pid, signal.SIGSTOP)  # it writes nothing over this
    (system.data_dir / "run" / FILE).write_bytes(b"\xc1 broken")
    os.kill(old.pid, signal.SIGKILL)
    assert total(system, "kept") == kept  # this program tells it again


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.soak)])
def test_a_counter_is_exact_over_kills_but_for_what_was_not_told(system, kills):
    name = f"counting-{kills}"
    system.node.start_supervisor(
        SupervisorSpec(
            [ChildSpec(name, Counting, name=name, args=(name,))], name=f"killed-{kills}", intensity=1000, period=1.0
        )
    )
    exact, last = 0, None
    for number in range(kills):
        pid = until(lambda last=last: _count(system, name, last))
        if number % 2:
            # It is told within a second. What the one before had not told in its last second went with it.
            until(lambda exact=exact: total(system, "kills.counted", by=name) > exact)
            exact = total(system, "kills.counted", by=name)
            assert exact <= number + 1
        os.kill(pid, signal.SIGKILL)
        last = pid
    assert total(system, "kills.counted", by=name) == exact >= kills // 2


def _count(system, name, last):
    try:
        pid = system.node.call(name, 1)
    except SupervisorsError:
        return None
    assert pid != last
    return pid


def test_what_a_worker_had_told_stays_when_it_is_killed(system):
    def told_by_workers():
        return sum(
            row["sum"]
            for actor, found in system.telemetry.metrics("module.execution.success", by_actor=True).items()
            for row in found["module.execution.success"]
            if actor.startswith("worker-")
        )

    dspex.evaluate(triage(), tickets(100), metric=metric(), system=system)
    before, by_workers = total(system, "module.execution.success"), told_by_workers()
    assert by_workers >= 100
    for name in ("worker-1", "worker-2"):
        killed(system, name)
    assert total(system, "module.execution.success") == before
    assert told_by_workers() == by_workers


def test_a_program_that_ends_tells_the_last_and_its_children_tell_theirs(system):
    script = """
import os, sys, dspex_actors as dspex
from supervisors import Node
from dspex_actors.foundation.home import HOME
system = dspex.connect(home=sys.argv[1])
system.telemetry.counter("programs.count", 2)
system.telemetry.metrics()
child = os.fork()
if not child:
    system.telemetry.counter("programs.count", 5)
    system.telemetry.metrics()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
system.telemetry.counter("programs.count", 10)
"""
    process = run_script(script, system.data_dir)
    assert process.wait(60) == 0
    process.stdout.close()
    assert total(system, "programs.count") == 17


def test_a_program_that_connects_again_is_counted_once(system):
    script = """
import sys, dspex_actors as dspex
for _ in range(3):
    with dspex.connect(home=sys.argv[1]) as system:
        system.telemetry.counter("again.count", 2)
        system.telemetry.metrics()
"""
    process = run_script(script, system.data_dir)
    assert process.wait(60) == 0
    process.stdout.close()
    assert total(system, "again.count") == 6


def test_handlers_are_told_what_has_grown_and_one_that_fails_is_detached(system):
    heard, failed = [], []

    def handler(name, measurements, tags):
        heard.append((name, measurements, tags))

    def broken(name, measurements, tags):
        failed.append(name)
        raise RuntimeError("no")

    system.telemetry.counter("handled.count", 5, tag="a")
    system.telemetry.attach("mine", ["handled."], handler)
    system.telemetry.attach("broken", "handled.", broken)
    with pytest.raises(dspex.ConfigError, match="one that is not taken"):
        system.telemetry.attach("mine", [""], print)
    system.telemetry.counter("handled.count", 2, tag="a")
    system.telemetry.counter("handled.count", 2, tag="a")
    system.telemetry.counter("unheard", 2)
    until(lambda: sum(measurements["sum"] for _, measurements, _ in heard) == 4)
    assert {(name, *tags.items()) for name, _, tags in heard} == {("handled.count", ("tag", "a"))}
    last = heard[-1][1]
    assert last == {"count": last["count"], "sum": 2 * last["count"], "mean": 2.0, "total": 9}
    heard.clear()
    for number in range(20):
        system.telemetry.counter("handled.count", 1, tag=number)
    until(lambda: len(heard) == 20)
    until(lambda: len(failed) >= 10)
    until(lambda: "broken" not in system.telemetry._handlers._attached)
    assert len(failed) == 10
    assert system.telemetry.detach("mine")
    assert not system.telemetry.detach("mine")


@pytest.mark.parametrize(
    "bad", [("", [""], print), (1, [""], print), ("x", [], print), ("x", [1], print), ("x", "", 1)]
)
def test_what_is_no_handler_is_refused(system, bad):
    with pytest.raises(dspex.ConfigError, match="is invalid: got"):
        system.telemetry.attach(*bad)


def test_metrics_are_served_where_the_configuration_says_so_and_nowhere_else_after_it(system):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    system.telemetry.counter("served.count", 3, text='a"\n\\')
    system.config.update(f"{SETTINGS}.metrics_port", port)
    url = f"http://127.0.0.1:{port}/metrics"
    text = until(lambda: _get(url))
    families = {family.name: family for family in text_string_to_metric_families(text)}
    (sample,) = families["dspex_served_count"].samples
    assert (sample.value, sample.labels) == (3.0, {"text": 'a"\n\\'})
    system.config.update(f"{SETTINGS}.metrics_port", None)
    until(lambda: _get(url) is None)


def _get(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def test_a_node_serves_metrics_from_its_start_and_is_not_started_for_a_port_that_is_taken(home):
    def command(*words):
        return warm.run([sys.executable, "-m", "dspex_actors", *words], capture_output=True, text=True)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = command("start", "--metrics-port", port)
        assert refused.returncode != 0
        assert f"--metrics-port {port} cannot be had (Address already in use)" in refused.stderr
        assert not (home / "node.json").exists()
    try:
        assert command("start", "--metrics-port", port).returncode == 0
        assert until(lambda: _get(f"http://127.0.0.1:{port}/metrics") is not None)
    finally:
        command("stop", "--now")


def test_recording_can_be_switched_off_and_on_while_it_runs(system):
    system.telemetry.counter("switched", 1)
    assert total(system, "switched") == 1
    system.config.update(f"{SETTINGS}.enabled", False)
    until(lambda: not _grows(system))
    system.config.update(f"{SETTINGS}.enabled", True)
    until(lambda: _grows(system))


def _grows(system):
    before = total(system, "switched")
    system.telemetry.counter("switched", 1)
    return total(system, "switched") > before


def test_the_command_shows_it(system):
    system.telemetry.counter("shown.count", 1234567, tag="x")
    system.telemetry.metrics("shown")

    def dspex_metrics(*options):
        command = [sys.executable, "-m", "dspex_actors", "metrics", *options]
        environ = os.environ | {"DSPEX_HOME": str(system.data_dir)}
        return warm.run(command, env=environ, capture_output=True, text=True, check=True).stdout

    page = dspex_metrics("shown")
    assert "shown.count  tag=x" in page
    assert "1,234,567" in page
    (row,) = json.loads(dspex_metrics("shown", "--json"))["shown.count"]
    assert (row["tags"], row["sum"]) == ({"tag": "x"}, 1234567)
    assert "no metric begins with 'nothing'" in dspex_metrics("nothing")


@pytest.mark.parametrize(
    "wrong", [Read(prefix=5), Read(form=5), Tell("x", "y", "z", 0, []), Tell([], "y", 1, 0, []), Await([])]
)
def test_a_request_that_is_none_is_refused_and_nobody_falls(system, wrong):
    telemetry.counter("before.nonsense")
    system.telemetry.metrics()
    ref = system.node.whereis(TELEMETRY)
    assert system.node.call(TELEMETRY, wrong)[0] == "error"
    assert system.node.whereis(TELEMETRY) == ref
