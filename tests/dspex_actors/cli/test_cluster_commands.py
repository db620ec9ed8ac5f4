"""What the commands of a cluster say: to narrow terminals, of what is told twice, and while a node is going."""

import json

import click
import pytest

from dspex_actors.cli import look
from dspex_actors.cli.joining import labels_of
from dspex_actors.cli.nodes import _show
from dspex_actors.runs.evaluator.noting import rest_of
from supervisors.cluster.membership.messages import CORDONED, DRAINING, Member
from supervisors.errors import NodeDown

MEMBERS = [
    Member("n1", "u", "127.0.0.1", 35893, labels={"region": "eu", "gpu": "1"}, version="0.1.0"),
    Member("worker-7", "v", "127.0.0.12", 35893, state=CORDONED, last_beat=3.0, version="0.1.0"),
]


@pytest.mark.parametrize(
    ("columns", "header"),
    [
        (140, "name state role address workers load labels last beat version"),
        (80, "name state role address labels last beat"),
        (60, "name state address labels"),
        (45, "name state address"),
    ],
)
def test_a_narrow_terminal_is_shown_fewer_columns_of_the_members_each_whole(monkeypatch, capsys, columns, header):
    monkeypatch.setenv("COLUMNS", str(columns))
    _show(MEMBERS)
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[0].split()) == header
    assert len(lines) == 1 + len(MEMBERS)
    for member, line in zip(MEMBERS, lines[1:], strict=True):
        assert line.startswith(f"{member.name} ")
        assert member.address in line


def test_a_label_that_is_told_twice_with_two_values_is_refused():
    assert labels_of(("gpu=1", "gpu=1", "a=b=c")) == {"gpu": "1", "a": "b=c"}
    with pytest.raises(click.UsageError, match="--label gpu is told twice: expected one value, got 1 and 2"):
        labels_of(("gpu=1", "gpu=2"))


def test_a_run_whose_nodes_all_rest_says_so():
    alone = Member("n1", "u", "", 0, state=CORDONED)
    draining = Member("n2", "v", "", 0, state=DRAINING)
    assert rest_of([]) is None
    assert rest_of([alone, MEMBERS[0]]) is None
    assert rest_of([alone]).startswith("the node that may work for it: cordoned (n1); `dspex uncordon NODE`")
    assert rest_of([draining, alone]).startswith("all nodes that may work for it: cordoned or draining (n1, n2); ")


def test_a_node_that_is_being_stopped_is_no_node_that_runs_and_not_degraded(monkeypatch, tmp_path):
    (tmp_path / "node.json").write_text(json.dumps({"address": "127.0.0.1:1", "pid": 7, "stopping": True}))
    monkeypatch.setattr(look, "default_data_dir", lambda: tmp_path)
    monkeypatch.setattr(look, "node_runs", lambda folder: True)
    monkeypatch.setattr("supervisors.client.launch.node_runs", lambda folder: True)
    with pytest.raises(NodeDown, match="is being stopped: `dspex start` waits for that"):
        look.attached()
