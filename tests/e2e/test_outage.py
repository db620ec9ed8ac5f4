"""A server that goes away in the middle of a run: the run pauses, its server is left alone, and nothing fails."""

import itertools
import json
import os
import signal
import time

import pytest
from click.testing import CliRunner
from e2e_kit import check_whole, until

import dspex_actors as dspex
from benchmarks.outage import Provider, outage
from dspex_actors.cli.runs import show_run
from dspex_actors.lm.control.client import client_name

RECOVERY = 0.4
KINDS = ["circuit.opened", "circuit.testing", "circuit.closed"]


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSPEX_HOME", str(tmp_path_factory.mktemp("home")))
        with dspex.connect(workers=2) as system:
            yield system


@pytest.fixture
def provider():
    with Provider() as made:
        yield made


def lm_at(provider, name, **settings):
    circuit = {"failure_threshold": 5, "recovery_time": RECOVERY, "growth": 1.0}
    return dspex.LM(f"openai/{name}", base_url=provider.url, circuit=circuit, cache=False, **settings)


@pytest.mark.soak
def test_a_run_pauses_with_one_probe_per_interval_and_fails_nothing(system, provider):
    lm = lm_at(provider, "pauses")
    told = []

    def follow(summary):
        if not told and summary["note"].get("trouble"):
            told.append(summary["note"]["trouble"])
            home = {"DSPEX_HOME": str(system.data_dir.parent.parent)}
            shown = CliRunner(env=home).invoke(show_run, [summary["run_id"], "--json"], standalone_mode=False)
            assert shown.exception is None, shown.exception
            told.append(json.loads(shown.output)["waits_for"])

    result = outage(provider, lm, 400, 64, 0.4, 2.5, on_progress=follow)
    assert told == ["circuit open: openai/pauses"] * 2
    check_whole(result, 400)
    assert (result.failed, result.score) == (0, 100.0)
    before, probes = _apart(provider.asked_in_vain, 0.9 * RECOVERY)
    assert len(probes) >= 2
    assert len(probes) <= (probes[-1] - before[-1]) / (0.9 * RECOVERY)
    assert len(provider.asked) == 400
    # Those that were under way, and who was asked again before the circuit was open.
    assert len(before) < 3 * 64
    again = min(at for at in provider.asked if at > provider.back)
    assert again - provider.back < 20.0


@pytest.mark.soak
def test_the_client_actor_may_be_killed_in_an_outage(system, provider):
    lm = lm_at(provider, "killed")
    killed = []

    def follow(summary):
        if not killed and summary["note"].get("trouble"):
            killed.append(system.node.pid(client_name(lm.deployment)))
            os.kill(killed[0], signal.SIGKILL)

    began = time.monotonic()
    result = outage(provider, lm, 300, 32, 0.4, 2.0, on_progress=follow)
    assert time.monotonic() - began < 40.0  # each worker is told: none waits for the time that a probe has
    check_whole(result, 300)
    assert (result.failed, len(killed)) == (0, 1)
    before, probes = _apart(provider.asked_in_vain, 0.9 * RECOVERY)
    # Its successor learns from who asks that the circuit was open: it may grant one probe sooner.
    assert len(probes) <= 2.0 / RECOVERY + 3
    assert len(before) < 3 * 32


@pytest.mark.soak
def test_with_a_fallback_it_goes_on_at_once(system, provider):
    with Provider() as other:
        lm = lm_at(provider, "goes-on", fallbacks=[dspex.LM("openai/other", base_url=other.url)])
        began = time.monotonic()
        result = outage(provider, lm, 400, 64, 0.4, 30.0)
        assert time.monotonic() - began < 25.0  # not the 30 s that the provider is away
        check_whole(result, 400)
        assert result.failed == 0
        assert len(other.asked) == 400 - len(provider.asked)
        reply = lm("hello")
        assert (reply.fallback["instead_of"], reply.fallback["because"]) == ("openai/goes-on", "CircuitOpen")
        assert "it is down" in reply.fallback["message"]
        assert reply.model == "m"


def test_one_call_of_nobodys_run_is_told_when_to_come_again(system, provider):
    lm = lm_at(provider, "told", deadline=20.0)
    assert lm("hello").fallback is None
    provider.is_away = True
    stats = until(lambda: _tried(system, lm))
    assert stats["circuit"]["reason"].endswith("it is down")
    with pytest.raises(dspex.CircuitOpen, match=r"the circuit of openai/told is open .*it is down") as caught:
        lm("hello", deadline=0.05)
    assert 0 < caught.value.retry_after <= 1.0
    provider.is_away = False
    assert lm("hello").text


def _apart(times, seconds):
    """Return what came before the first gap of so many seconds, and what came after it."""
    first = next(place for place, (a, b) in enumerate(itertools.pairwise(times), 1) if b - a > seconds)
    return times[:first], times[first:]


def _tried(system, lm):
    """Ask in vain; return the client actor's counts once the circuit is open."""
    with pytest.raises(dspex.LMError):
        lm("hello", deadline=0.5)
    stats = system.node.call(client_name(lm.deployment), "stats")
    return stats if stats["circuit"]["state"] != "closed" else None


def test_what_happened_to_circuits_is_among_the_events_and_metrics(system, provider):
    lm = lm_at(provider, "seen")
    check_whole(outage(provider, lm, 100, 32, 0.4, 0.5), 100)

    def kinds():
        found = system.events.query(KINDS, where={"circuit": "openai/seen"})
        return [event.type for event in found]

    seen = until(lambda: (found := kinds()) and found[-1] == "circuit.closed" and found)
    assert seen[0] == "circuit.opened"
    assert "circuit.testing" in seen
    gauge = until(
        lambda: [
            one
            for one in system.telemetry.metrics("circuit.state").get("circuit.state", [])
            if one["tags"].get("circuit") == "openai/seen"
        ]
    )
    assert gauge[0]["max"] == 2


@pytest.mark.soak
def test_an_outage_of_thirty_seconds_in_a_run_of_five_thousand(system, provider):
    lm = lm_at(provider, "soak").copy(circuit={"recovery_time": 5.0, "growth": 1.0})
    result = outage(provider, lm, 5000, 64, 0.4, 30.0)
    check_whole(result, 5000)
    assert result.failed == 0
    _, probes = _apart(provider.asked_in_vain, 4.5)
    assert 4 <= len(probes) <= 7
    assert all(b - a > 4.5 for a, b in itertools.pairwise(probes))
