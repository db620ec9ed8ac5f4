"""A node that is stopped is said to be gone at once: nobody waits for what cannot come back."""

import time

import pytest

import dspex_actors as dspex
from dspex_actors.config import handle as config
from dspex_actors.observe.events.program_sender import ProgramSender
from dspex_actors.protection import access as protection
from dspex_actors.services import handle as services
from supervisors.errors import NodeDown


class Happened(dspex.Event):
    what: str = ""


def quickly(ask):
    began = time.monotonic()
    try:
        return ask()
    finally:
        assert time.monotonic() - began < 60.0, "for whom did it wait?"


@pytest.fixture
def patience(monkeypatch):
    """Have everybody wait for ten minutes for a node that may come back."""
    for module in (config, services, protection):
        monkeypatch.setattr(module, "COME_BACK_SECONDS", 600.0)
    monkeypatch.setattr(ProgramSender.flush, "__defaults__", (600.0,))


def test_whoever_asks_a_node_that_was_stopped_hears_so_at_once(home, patience):
    with dspex.connect(workers=1) as system:
        system.events.emit(Happened(what="before"))
        assert [event.what for event in system.events.query(Happened)] == ["before"]
        assert system.config.get("optimisation.copro.breadth") > 0
        assert system.services.find(namespace="node")
        dspex.configure_protection("gone", pool=1)
        system.node.close()
        system.events.emit(Happened(what="too late"))
        assert [event.what for event in quickly(lambda: system.events.query(Happened))] in (["before"], [])
        assert quickly(lambda: system.events.trace_tree("nothing")) is None
        for ask in (
            lambda: system.config.get("optimisation.copro.breadth"),
            lambda: system.config.update("optimisation.copro.breadth", 5),
            lambda: system.services.find(),
            lambda: system.services.health(),
        ):
            with pytest.raises(NodeDown):
                quickly(ask)
        with pytest.raises(dspex.DspexError, match="owner of protected keys does not answer"):
            quickly(lambda: dspex.execute_protected("gone", lambda: 1))
