"""The packages' faces: what `import` gives, and what it does not load before somebody uses it."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import dspex_actors
import supervisors
from dspex_actors.app import PRELOAD
from dspex_actors.workers.node import APP as APP_OF_WORKER
from supervisors.runtime.node.own import PRELOADED, PRELOADED_BY_WORKER

FACES = [supervisors, dspex_actors]


def loaded_by(code):
    """Return the modules that a fresh interpreter has loaded after some code."""
    code += "\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def places_for_type_checkers(face):
    """Return name → module as the imports under TYPE_CHECKING say it."""
    tree = ast.parse(Path(face.__file__).read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {alias.name: each.module for each in block.body for alias in each.names}


def modules_of(face):
    """Return name → where it is, of the names that are modules."""
    return getattr(face, "_MODULES", {})


@pytest.mark.parametrize("face", FACES)
def test_names_are_where_type_checkers_look_for_them(face):
    modules = modules_of(face)
    wanted = {
        name: f"{place}.{name}" if name in modules else place for name, place in places_for_type_checkers(face).items()
    }
    assert wanted == {name: f"{face.__name__}.{place}" for name, place in {**face._LATER, **modules}.items()}


@pytest.mark.parametrize("face", FACES)
def test_every_name_is_there_and_listed(face):
    everything = {}
    exec(f"from {face.__name__} import *", everything)
    assert set(face.__all__) == everything.keys() - {"__builtins__"}
    assert {*face._LATER, *modules_of(face)} <= set(face.__all__) <= set(dir(face))
    with pytest.raises(AttributeError, match=f"module '{face.__name__}' has no attribute 'Nothing'"):
        _ = face.Nothing


@pytest.mark.parametrize("code", ["import supervisors", "import dspex_actors", "import dspex_actors.cli.main"])
def test_importing_loads_no_part_before_its_use(code):
    heavy = {"asyncio", "pydantic", "rich", "cryptography", "sqlite3", "supervisors.client.node", "dspex_actors.lm.lm"}
    assert heavy.isdisjoint(loaded_by(code))


def test_connecting_loads_nothing_that_only_workers_or_people_need():
    code = "from dspex_actors import LM, Predict, connect, evaluate, metrics; LM('embedded/learner')"
    assert {"rich", "aiohttp", "httpx", "json_repair", "genai_prices"}.isdisjoint(loaded_by(code))


def test_a_node_has_loaded_what_servers_import_before_it_forks():
    loaded = loaded_by("".join(f"import {name}\n" for name in PRELOADED))
    assert {f"supervisors.{place}" for place in supervisors._LATER.values()} <= loaded


def test_a_node_of_ours_has_loaded_what_programs_import_before_it_forks():
    loaded = loaded_by("".join(f"import {name}\n" for name in (*PRELOADED, *PRELOAD)))
    places = (dspex_actors._LATER | dspex_actors._MODULES).values()
    programs = {place for place in places if place.partition(".")[0] not in ("client", "workflow", "testing")}
    assert {f"dspex_actors.{place}" for place in programs} | {"json_repair"} <= loaded


#: What a node of a role has not loaded while it is idle: it would be in the memory of each of its processes.
FOR_PEOPLE = {"click", "rich", "dspex_actors.cli", "dspex_actors.web", "dspy", "openai", "httpx", "psycopg", "numpy"}
FOR_CALLS = {"pydantic", "aiohttp", "sqlite3", "json_repair", "dspex_actors.lm", "dspex_actors.programs"}
FOR_RUNS = {"dspex_actors.runs", "dspex_actors.journal", "dspex_actors.teleprompt", "supervisors.cluster.leases.server"}


@pytest.mark.parametrize(
    ("loads", "unneeded"),
    [
        ((*PRELOADED, *PRELOAD), FOR_PEOPLE),
        ((*PRELOADED_BY_WORKER, APP_OF_WORKER.partition(":")[0]), FOR_PEOPLE | FOR_CALLS | FOR_RUNS),
    ],
    ids=["full", "worker"],
)
def test_an_idle_node_has_not_loaded_what_it_has_no_use_for(loads, unneeded):
    loaded = loaded_by("".join(f"import {name}\n" for name in ("supervisors.runtime.node.__main__", *loads)))
    assert unneeded.isdisjoint(loaded)
