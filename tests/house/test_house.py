"""The rules of the house: who may import whom, how long a file may be, what is pure."""

import functools
import itertools

import pytest

from tests.house.imports import PACKAGES, ROOT, circles, graph, imports_of, room_of, sources

#: The rooms of each package from the ground up. A room imports only rooms that stand before it, and itself.
ROOMS = {
    "supervisors": (
        "version",
        "terms",
        "errors",
        "wire",
        "supervisor",
        "host",
        "genserver",
        "system_server",
        "first_use",
        "partition",
        "tasks",
        "registry",
        "pool",
        "groups",
        "application",
        "cluster",
        "client",
        "runtime.process",
        "runtime.thespian",
        "runtime.node",
        "runtime",
        "testing",
    ),
    "dspex_actors": (
        "plain",
        "errors",
        "names",
        "foundation",
        "settings",
        "cache",
        "observe",
        "embedded",
        "lm",
        "config",
        "types",
        "signatures",
        "example",
        "adapters",
        "sandbox",
        "programs",
        "steps",
        "streaming",
        "judging",
        "semantic",
        "metrics",
        "dspy",
        "data",
        "journal",
        "runs",
        "protection",
        "workers",
        "services",
        "ecosystem",
        "inference",
        "modules",
        "optimisation",
        "app",
        "client",
        "workflow",
        "testing",
        "teleprompt",
        "cli",
    ),
}

#: What programs, and dspex_actors, may import of `supervisors`.
PUBLIC = (
    "supervisors",
    "supervisors.errors",
    "supervisors.testing",
    "supervisors.client.launch",
    "supervisors.cluster.branch",
    "supervisors.cluster.handle",
    "supervisors.cluster.consensus.handle",
    "supervisors.cluster.leases.handle",
    "supervisors.cluster.leases.messages",
    "supervisors.cluster.leases.store",
    "supervisors.cluster.placement.handle",
    "supervisors.cluster.placement.singleton",
    "supervisors.cluster.state.handle",
    "supervisors.cluster.telling",
    "supervisors.cluster.membership.messages",
    "supervisors.first_use",
    "supervisors.host.log",
    "supervisors.host.node_config",
    "supervisors.host.processes",
    "supervisors.host.reports",
    "supervisors.wire.keys",
    "supervisors.wire.pickles",
)

#: Rooms and files without I/O: they decide, others do.
PURE = (
    "supervisors/supervisor/*.py",
    "supervisors/*/core.py",
    "supervisors/cluster/*/core.py",
    "supervisors/cluster/leases/raft.py",
    "supervisors/cluster/leases/raft_terms.py",
    "supervisors/cluster/leases/voters.py",
    "supervisors/cluster/membership/gossip.py",
    "supervisors/cluster/membership/messages.py",
    "supervisors/cluster/membership/suspicion.py",
    "supervisors/cluster/membership/table.py",
    "supervisors/host/alarms.py",
    "supervisors/pool/borrowers.py",
    "supervisors/pool/effects.py",
    "supervisors/pool/entries.py",
    "supervisors/pool/stats.py",
    "supervisors/registry/matching.py",
    "supervisors/tasks/stream_core.py",
    "supervisors/terms/checks.py",
    "supervisors/terms/errors.py",
    "supervisors/terms/reason.py",
    "supervisors/terms/ref.py",
    "supervisors/terms/spec.py",
    "supervisors/terms/via.py",
    "supervisors/terms/views.py",
    "dspex_actors/cache/core.py",
    "dspex_actors/cache/guards.py",
    "dspex_actors/cache/key.py",
    "dspex_actors/lm/answer_key.py",
    "dspex_actors/lm/control/tenure.py",
    "dspex_actors/modules/core.py",
    "dspex_actors/modules/counts.py",
    "dspex_actors/protection/core.py",
    "dspex_actors/protection/spec.py",
    "dspex_actors/runs/plan/*.py",
    "dspex_actors/sandbox/frames.py",
    "dspex_actors/sandbox/syscalls.py",
    "dspex_actors/workflow/core.py",
)
IMPURE = {"asyncio", "os", "time", "socket", "threading", "subprocess", "signal", "select", "selectors", "sqlite3"}

MODULES = sources()


@functools.cache
def arrows_of_all():
    """Return who imports whom: to read all sources takes seconds, which no other test need wait for."""
    return graph(MODULES)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_and_every_public_module_is_there(package):
    rooms = [f"{package}.{name}" for name in ROOMS[package]]
    assert not [room for room in rooms if room not in MODULES]
    assert not [module for module in PUBLIC if module not in MODULES]


def test_no_module_imports_itself_over_others():
    found = circles(arrows_of_all())
    assert not found, "\n".join("circle: " + ", ".join(group) for group in found)


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_import_only_rooms_below_them(package):
    wrong = []
    rooms = tuple(" ".join(f"{package}.{name}" for name in room.split()) for room in ROOMS[package])
    for module, arrows in arrows_of_all().items():
        mine = len(rooms) if module in (package, f"{package}.__main__") else room_of(module, rooms)
        if not module.startswith(package):
            continue
        assert mine is not None, f"{module} is in no room of tests/house/test_house.py: give it a place"
        for other, line in arrows.items():
            theirs = len(rooms) if other == package else room_of(other, rooms)
            if other.startswith(package) and theirs is not None and theirs > mine:
                wrong.append(
                    f"{MODULES[module].relative_to(ROOT)}:{line}: {module} imports {other}, which stands above it"
                )
    assert not wrong, "\n".join(wrong)


def test_supervisors_does_not_know_dspex_actors():
    wrong = [
        module
        for module, arrows in arrows_of_all().items()
        if module.startswith("supervisors") and any(other.startswith("dspex_actors") for other in arrows)
    ]
    assert not wrong


def test_dspex_actors_imports_only_what_is_public_of_supervisors():
    wrong = [
        f"{MODULES[module].relative_to(ROOT)}:{line}: {other}"
        for module, arrows in arrows_of_all().items()
        if module.startswith("dspex_actors")
        for other, line in arrows.items()
        if other.startswith("supervisors") and other not in PUBLIC
    ]
    assert not wrong, "\n".join(wrong)


def test_thespian_is_imported_in_one_folder():
    wrong = [
        str(path.relative_to(ROOT))
        for module, path in MODULES.items()
        if not module.startswith("supervisors.runtime.thespian")
        and any(each.module.split(".")[0] == "thespian" for each in imports_of(path, MODULES))
    ]
    assert not wrong


def test_no_file_is_longer_than_400_lines():
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES.values()}
    assert not {path: lines for path, lines in long.items() if lines > 400}


def test_no_two_files_of_tests_have_one_name():
    """Pytest takes the second for the first."""
    names = sorted(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, after in itertools.pairwise(names) if name == after] == []


def test_pure_files_do_no_io():
    paths = {path for pattern in PURE for path in ROOT.glob(pattern)}
    assert len(paths) > 20  # else the patterns miss what they are for
    wrong = [
        f"{path.relative_to(ROOT)}:{each.line}: {each.module}"
        for path in sorted(paths)
        for each in imports_of(path, MODULES)
        if each.module.split(".")[0] in IMPURE
    ]
    assert not wrong, "\n".join(wrong)
