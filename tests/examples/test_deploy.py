"""What stands in deploy/ and in docs/cluster.md: each command line is one that our command understands."""

import configparser
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from dspex_actors.cli.main import dspex
from supervisors.wire.keys import KEY_FILE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
#: What a shell puts in the place of a variable.
VARIABLES = {
    "$POD_IP": "10.0.0.1",
    "$POD": "dspex-1",
    "$HOSTNAME": "dspex-1",
    "$DSPEX_START": "--host 10.0.0.2 --join 10.0.0.1:7400",
}


_JOINTS = (">", "|", "&&", ";")


def understood(words):
    """Parse a command line as `dspex` would, and do nothing; return the options of the command that it ends at."""
    context = dspex.make_context("dspex", list(words))
    command, rest = dspex, [*context._protected_args, *context.args]
    while isinstance(command, click.Group) and rest:
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
        rest = [*context._protected_args, *context.args]
    return context.params


def filled(text):
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    return text


def in_shell(text):
    """Return the words of each call of dspex in a piece of shell, of `set --` too: they are of the next call."""
    found, more = [], []
    for line in filled(text.replace("\\\n", " ")).splitlines():
        words = shlex.split(line.strip().removesuffix(";"), comments=True)
        if words[:2] == ["set", "--"]:
            more += words[2:]
        at = next((at for at, word in enumerate(words) if word == "dspex" and _is_called(words[:at])), None)
        if at is not None:
            words = words[at + 1 :]
            ends = [at for at, word in enumerate(words) if word in _JOINTS or word.endswith(";")]
            words = [word.rstrip(";") for word in words[: min(ends, default=len(words) - 1) + 1] if word not in _JOINTS]
            found.append([each for word in words for each in (more[-2:] if word == "$@" else [word])])
    return found


def _is_called(before):
    return not before or before == ["exec"] or before[-1] == "--" or before[:2] == ["docker", "exec"]


def documents():
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text())


def containers():
    for document in documents():
        if document["kind"] == "StatefulSet":
            yield from document["spec"]["template"]["spec"]["containers"]


def options_of(path):
    """Return what a unit says, its comments and repeated lines aside."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read_string(path.read_text())
    return parser


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["start", "--no-such"], "No such option"),
        (["nodez"], "No such command"),
        (["start", "--role", "x"], "not one of"),
    ],
)
def test_a_line_that_the_command_does_not_know_is_found(words, why):
    with pytest.raises(click.UsageError, match=why):
        understood(words)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_the_node_with_options_that_there_are(path, tmp_path):
    unit = options_of(path)
    program, *words = shlex.split(filled(unit["Service"]["ExecStart"]))
    assert program == "/opt/dspex/bin/dspex"
    options = understood(words)
    assert (options["foreground"], options["join"]) == (True, "10.0.0.1:7400")
    assert options["role"] == ("worker" if "worker" in path.stem else None)
    if shutil.which("systemd-analyze"):
        here = tmp_path / path.name
        here.write_text(path.read_text().replace(program, str(Path(sys.executable).parent / "dspex")))
        done = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def status_of(command, says, folder):
    """Run a probe with a `dspex` that only exits with a status."""
    (folder / "dspex").write_text(f"#!/bin/sh\nexit {says}\n")
    (folder / "dspex").chmod(0o700)
    path = f"{folder}:{os.environ['PATH']}"
    return subprocess.run(command, env={"PATH": path}, check=False).returncode


def test_the_manifests_start_probe_and_name_what_there_is():
    kinds = {}
    for document in documents():
        kinds.setdefault(document["kind"], []).append(document)
    assert set(kinds) == {"Secret", "Service", "StatefulSet"}
    (secret,) = kinds["Secret"]
    assert list(secret["stringData"]) == [KEY_FILE]
    headless = {service["metadata"]["name"]: service["spec"] for service in kinds["Service"]}
    assert all(spec["clusterIP"] == "None" for spec in headless.values())
    assert {port["protocol"] for port in headless["dspex"]["ports"]} == {"TCP", "UDP"}
    for each in kinds["StatefulSet"]:
        spec = each["spec"]
        assert spec["serviceName"] in headless
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"] == labels
        assert headless["dspex"]["selector"].items() <= labels.items()
        pod = spec["template"]["spec"]
        volumes = {volume["name"] for volume in [*pod["volumes"], *_claims(spec)]}
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} <= volumes
        assert pod["volumes"][-1]["secret"]["secretName"] == secret["metadata"]["name"]


def _claims(spec):
    return [claim["metadata"] for claim in spec.get("volumeClaimTemplates", [])]


def test_each_command_of_the_manifests_is_one_of_ours(tmp_path):
    seen = []
    for container in containers():
        for text in container["args"]:
            calls = in_shell(text)
            assert calls, text
            for words in calls:
                options = understood(words)
                assert options["foreground"]
                assert options["host"] == "10.0.0.1"
                seen.append((options["role"], options["join"], options["port"]))
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            command = container[probe]["exec"]["command"]
            (words,) = [command[1:]] if command[0] == "dspex" else in_shell(command[2])
            assert words == ["status"]
            understood(words)
            if probe != "readinessProbe":  # a node that is degraded mends itself, or waits for its journal's server
                assert [status_of(command, says, tmp_path) for says in (0, 1, 2)] == [0, 0, 1]
    assert seen == [(None, "dspex-1.dspex:7400", 7400), ("worker", "dspex-ready:7400", 7400)]


def started(container, folder, **environment):
    """Run what a container runs, with a `dspex` and a `getent` that only say what they are given."""
    bin_ = folder / "bin"
    bin_.mkdir(exist_ok=True)
    for name, text in (("dspex", 'echo dspex "$@"'), ("getent", '[ -e "$KNOWN" ]')):
        (bin_ / name).write_text(f"#!/bin/sh\n{text}\n")
        (bin_ / name).chmod(0o755)
    command = [*container["command"], *container["args"]]
    known = {"PATH": f"{bin_}:/usr/bin:/bin", "POD_IP": "10.0.0.9", "DSPEX_HOME": str(folder)}
    done = subprocess.run(command, env=known | environment, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()[1:]


def test_the_first_pod_makes_the_cluster_the_others_join_it_and_one_that_has_lost_its_volume_joins_anew(tmp_path):
    full, worker = containers()

    def join(**environment):
        options = understood(started(full, tmp_path, **environment))
        assert (options["name"], options["host"], options["port"]) == (environment["POD"], "10.0.0.9", 7400)
        return options["join"]

    assert join(POD="dspex-1") == join(POD="dspex-2") == "dspex-0.dspex:7400"
    assert join(POD="dspex-0") is None
    assert join(POD="dspex-0", KNOWN="/") == "dspex-1.dspex:7400"
    (tmp_path / "cluster.json").touch()
    assert join(POD="dspex-0", KNOWN="/") is None
    assert understood(started(worker, tmp_path, POD="dspex-worker-3"))["role"] == "worker"


def test_a_pod_is_no_root_and_writes_only_where_a_volume_is():
    """A node was started so, as process 1: these two are what it writes to."""
    image = (DEPLOY / "container" / "Dockerfile").read_text()
    (user,) = re.search(r"--uid (\d+)", image).groups()
    for each in (document for document in documents() if document["kind"] == "StatefulSet"):
        pod = each["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert (pod["securityContext"]["runAsNonRoot"], str(pod["securityContext"]["runAsUser"])) == (True, user)
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        env = {each["name"]: each.get("value") for each in container["env"]}
        writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
        assert sorted(writable) == ["/data", "/tmp"]
        assert env["DSPEX_HOME"].startswith("/data/")
        (key,) = [mount["mountPath"] for mount in container["volumeMounts"] if mount.get("readOnly")]
        assert env["DSPEX_CLUSTER_KEY_FILE"] == f"{key}/{KEY_FILE}"


def test_the_image_starts_a_node_and_asks_how_it_is():
    text = (DEPLOY / "container" / "Dockerfile").read_text()
    entry, command, health = (
        json.loads(re.search(rf"^{word} .*?(\[.*\])$", text, re.MULTILINE)[1])
        for word in ("ENTRYPOINT", "CMD", "HEALTHCHECK")
    )
    assert (entry, health) == (["dspex"], ["dspex", "status"])
    assert understood(command)["foreground"]
    (extra,) = re.search(r"/src\[(\w+)\]", text).groups()
    assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text()


def test_each_command_line_of_the_page_is_one_of_ours():
    page = (ROOT / "docs" / "cluster.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    calls = [words for block in blocks for words in in_shell(block)]
    # Those of an image come behind its name.
    calls += [
        shlex.split(filled(rest), comments=True)
        for rest in re.findall(r"^docker run .* dspex-actors (\w.*)$", page.replace("\\\n", " "), re.MULTILINE)
    ]
    assert len(calls) >= 18
    for words in calls:
        understood(words)
    for line in re.findall(r"`dspex ([a-z][^`\n]*)`", page):
        with contextlib.suppress(click.BadParameter):  # a command that is only named, or has N for a number
            understood(shlex.split(line.replace("[--", "--").replace("]", "").split("|")[0]))
