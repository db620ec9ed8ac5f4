"""What is refused before a node is started or asked."""

from __future__ import annotations

from typing import Any

import pytest

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.telemetry import recorder
from dspex_actors.services.names import check_metadata


@pytest.mark.parametrize("value", ["banana", "2", "-1", "disabled"])
def test_a_switch_of_telemetry_that_says_neither_on_nor_off_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("DSPEX_TELEMETRY", value)
    with pytest.raises(ConfigError, match=f"DSPEX_TELEMETRY is invalid: got '{value}', expected 1 or 0"):
        dspex.connect(home="/nowhere")


@pytest.mark.parametrize("value", ["", "0", "1", "off", "ON", "True"])
def test_a_switch_of_telemetry_may_be_written_in_several_ways(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("DSPEX_TELEMETRY", value)
    recorder.check_switch()


@pytest.mark.parametrize("value", ["yes", 1, None, {}])
def test_a_service_says_whether_it_tells_of_its_health_by_true_or_false(value: Any) -> None:
    with pytest.raises(ConfigError, match="the health of tools/search is invalid"):
        check_metadata(("tools", "search"), {"health": value})
    assert check_metadata(("tools", "search"), {"health": True}) == {"health": True}
