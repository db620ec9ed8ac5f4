"""How many nodes are to have each run: remembered from one start to the next, and never more than there are."""

import json

import pytest

from dspex_actors.app import AppConfig, children
from dspex_actors.cli.replicas import as_kept, check_as_kept, check_standbys
from dspex_actors.errors import ConfigError
from dspex_actors.journal.opening import set_place
from dspex_actors.journal.replicas import check_enough, keep_replicas, kept_replicas, too_few
from dspex_actors.names import RUNS
from supervisors.errors import NodeDown


def started(folder, replicas=None):
    """Return with how many a node is started."""
    (folder / "run").mkdir(exist_ok=True)
    specs = children(AppConfig(workers=1, replicas=replicas).to_dict(), {"data_dir": str(folder)})
    [keeper] = [spec for spec in specs if getattr(spec, "id", None) == RUNS]
    return keeper.args[1]


def test_a_node_goes_on_with_the_number_that_it_was_told_until_it_is_told_another(tmp_path):
    assert [started(tmp_path, told) for told in (None, 4, None, 1, None)] == [None, 4, 4, 1, 1]
    assert as_kept(tmp_path, None) == "replicas 1"
    assert as_kept(tmp_path, 3) == ""
    check_as_kept(tmp_path, None)
    with pytest.raises(NodeDown, match="runs already, with replicas 1, not 3: `dspex stop` it first"):
        check_as_kept(tmp_path, 3)


@pytest.mark.parametrize("text", ["", "3", "[]", "{}", '{"replicas": 0}', '{"replicas": 6}', '{"replicas": true}'])
def test_a_damaged_file_is_told_in_one_line(tmp_path, text):
    (tmp_path / "replicas.json").write_text(text)
    with pytest.raises(ConfigError, match=r"replicas.json is damaged: remove it, and start the node with --replicas"):
        kept_replicas(tmp_path)


def test_more_copies_than_nodes_are_refused_or_told():
    check_enough(3, 3)
    with pytest.raises(ConfigError, match="got 3, expected 2 at most, the full nodes of the cluster with this one"):
        check_enough(3, 2)
    assert too_few(None, 1) == too_few(2, 2) == []
    assert too_few(2, 1) == ["replicas 2, but this node is alone: runs that begin here have no copy"]
    assert too_few(4, 3) == ["replicas 4, but the cluster has 3 full nodes: runs that begin here have 3 copies"]


def test_copies_are_refused_where_all_nodes_have_one_journal(tmp_path):
    check_standbys(tmp_path, 3, None, None)  # a node alone: nobody knows how many there will be
    keep_replicas(tmp_path, 3)
    set_place(tmp_path, "postgresql://me@db/runs")
    with pytest.raises(ConfigError, match="runs are in a PostgreSQL server"):
        check_standbys(tmp_path, 2, None, None)
    check_standbys(tmp_path, 1, None, None)
    assert as_kept(tmp_path, None) == ""
    assert json.loads((tmp_path / "replicas.json").read_text()) == {"replicas": 3}
