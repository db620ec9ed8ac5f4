"""Two hosts, one run: the cable of one host is cut in the middle of an evaluation, and the evaluation does not notice.

    python examples/two_hosts.py

The hosts are network namespaces of this machine, with a router between them: Linux, `ip`, `unshare` and `nsenter`, and
either root or user namespaces that anybody may make. Nothing of the machine's own net is touched, and nothing stays.
The commands are those of docs/cluster.md. Exit status 3: this machine does not allow it, and why.
"""

# ruff: noqa: S603, S606, S607 - programs of the system, wherever they are

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.table import Table

import dspex_actors as dspex
from supervisors.testing import wait_until

TICKETS = Path(__file__).parent / "data" / "tickets.jsonl"
COUNT, IN_FLIGHT, SECONDS = 400, 16, 0.25
#: The cable is cut when so many are done.
CUT_AT = COUNT // 4
NOT_HERE = 3
PORT = 7400
console = Console(highlight=False)


class Triage(dspex.Module):
    """Which team handles a ticket. It takes its time, as a language model does."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = dspex.Predict("ticket -> team")

    async def aforward(self, ticket: str) -> Any:
        await asyncio.sleep(SECONDS)
        return await self.predict.acall(ticket=ticket)


class NotHereError(Exception):
    """This machine does not allow it."""


# --- the hosts --------------------------------------------------------------------------------------------------------


class Host:
    """A host: a network namespace with a name, an address, and a cable to the router.

    Args:
        name: its name.
        number: the third part of its address.
        home: where the home of its user is made.
    """

    def __init__(self, name: str, number: int, home: Path) -> None:
        self.name, self.address, self.cable = name, f"10.77.{number}.2", f"to-{name}"
        self.home = home / name
        self.home.mkdir()
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--uts", "sh", "-c", f"hostname {name} && echo && exec sleep infinity"],
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if not self._holder.stdout.readline():
            raise NotHereError("a namespace for a host cannot be made")
        _ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", str(self._holder.pid))
        _ip("address", "add", f"10.77.{number}.1/24", "dev", self.cable)
        self.plug(True)
        for words in (
            ("address", "add", f"{self.address}/24", "dev", "eth0"),
            ("link", "set", "lo", "up"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", f"10.77.{number}.1"),
        ):
            _ip(*words, inside=self._inside)

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", f"--target={self._holder.pid}", "--net", "--uts", "--"]

    def plug(self, is_in: bool) -> None:
        """Put the cable in, or pull it out, at the router: the host keeps its address."""
        _ip("link", "set", self.cable, "up" if is_in else "down")

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start Python on it."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("DSPEX_")}
        return subprocess.Popen(
            [*self._inside, sys.executable, *words],
            env=environ | {"HOME": str(self.home), "COLUMNS": "110"},
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )

    def dspex(self, *words: str, given: str | None = None, shows: bool = True) -> str:
        """Run a command on it, and show both."""
        if shows:
            console.print(f"[bold green]{self.name} $[/] dspex {' '.join(words)}", soft_wrap=True)
        process = self.start("-m", "dspex_actors", *words, stdin=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = process.communicate(given, timeout=120)
        if shows and words[0] != "key":
            console.print("".join(f"  {line.rstrip()}\n" for line in said.splitlines()), style="dim", soft_wrap=True)
        return said

    def members(self) -> dict[str, dict[str, Any]]:
        """Return the nodes that its node knows, by name."""
        with contextlib.suppress(ValueError, TypeError, KeyError):
            return {row["name"]: row for row in json.loads(self.dspex("nodes", "--json", shows=False))}
        return {}

    def remove(self) -> None:
        """Stop its node at once, and remove it."""
        self.dspex("stop", "--now", shows=False)
        self._holder.kill()
        self._holder.wait()


def _ip(*words: str, inside: list[str] | None = None) -> None:
    done = subprocess.run([*(inside or []), "ip", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        raise NotHereError(f"`ip {' '.join(words)}` says: {done.stderr.strip()}")


@contextlib.contextmanager
def hosts(home: Path) -> Iterator[tuple[Host, Host]]:
    """Make two hosts, and have the namespace that this runs in be the router between them."""
    made: list[Host] = []
    try:
        _ip("link", "set", "lo", "up")
        try:
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        except OSError as error:
            raise NotHereError(f"this namespace may not forward: {error.strerror}") from None
        for number, name in enumerate(("one", "two"), 1):
            made.append(Host(name, number, home))
        yield made[0], made[1]
    finally:
        for host in made:
            host.remove()


# --- the story --------------------------------------------------------------------------------------------------------


def story(home: Path) -> int:
    """Run it; return 0 when everything it promises was seen."""
    with hosts(home) as (one, two):
        step("Two hosts become a cluster")
        console.print(f"  one {one.address} ──── router ──── {two.address} two\n", style="cyan")
        one.dspex("start", "--host", one.address, "--port", str(PORT), "--workers", "1")
        key = one.dspex("key", "show")
        two.dspex("key", "import", "-", given=key)
        words = ("--port", str(PORT), "--join", f"{one.address}:{PORT}", "--label", "gpu=1", "--workers", "1")
        two.dspex("start", "--host", two.address, *words)
        one.dspex("nodes")

        step(f"A program on one evaluates {COUNT} examples; a cable is cut")
        client = one.start(__file__, "--client")
        seen = follow(client, two)
        if client.wait() or "result" not in seen:
            console.print("[red]the evaluation did not end well[/]")
            return 1
        result = seen["result"]
        console.print(figures(result))
        console.print(
            f"\n  every example has one result: [bold]{result['done']} of {COUNT}[/], {result['failed']} failed; "
            "what two had in hand was given to one",
            soft_wrap=True,
        )

        step("The cable is back")
        before = {name: row["incarnation"] for name, row in one.members().items()}
        two.plug(True)
        back = time.monotonic()
        wait_until(lambda: all(_alive(host, ("one", "two")) for host in (one, two)), 100)
        took = time.monotonic() - back
        after = {name: row["incarnation"] for name, row in one.members().items()}
        fenced = [name for name in after if after[name] > before.get(name, 0)]
        console.print(f"  two is up again by itself after {took:.1f} s")
        for name in fenced:
            console.print(
                f"  each took the other to be down: {name} gives in, and is another incarnation than before "
                f"({before[name]} → {after[name]}),\n  so that nothing that it owned is its own any more\n",
                soft_wrap=True,
            )
        one.dspex("nodes")
        good = result["done"] == COUNT and not result["failed"] and "down" in seen and fenced
        console.print("[bold green]● The run did not notice.[/]" if good else "[red]that was not all[/]")
        return 0 if good else 1


def _alive(host: Host, names: tuple[str, ...]) -> bool:
    return {name: row["state"] for name, row in host.members().items()} == dict.fromkeys(names, "alive")


def follow(client: subprocess.Popen[str], two: Host) -> dict[str, Any]:
    """Read what the client tells; cut the cable when it is time."""
    seen: dict[str, Any] = {}
    cut = 0.0
    assert client.stdout is not None
    for line in client.stdout:
        if not line.startswith("{"):
            console.print(line, end="")
            continue
        told = json.loads(line)
        seen |= told
        if told.get("done", 0) >= CUT_AT and not cut:
            two.plug(False)
            cut = time.monotonic()
            console.print(f"  {told['done']} done …  [bold red]✂ the cable of two is cut[/]")
        elif "down" in told and cut:
            console.print(f"  {told['down']} is [red]down[/] for one, {time.monotonic() - cut:.1f} s later")
    return seen


def figures(result: dict[str, Any]) -> Table:
    """Show what each node has done."""
    table = Table(box=None, padding=(0, 2), header_style="bold")
    table.add_column("node")
    for title in ("examples", "LM calls", "mean latency"):
        table.add_column(title, justify="right")
    for name, did in result["nodes"].items():
        latency = "-" if did["latency"] is None else f"{1000 * did['latency']:.0f} ms"
        table.add_row(name, str(did["done"]), str(did["asked"]), latency)
    return table


def step(title: str) -> None:
    """Begin a part of the story."""
    console.print()
    console.print(Rule(title, align="left", style="cyan"))
    console.print()


def client() -> int:
    """Be the program that evaluates; tell what happens in lines of JSON."""

    def tell(**what: Any) -> None:
        print(json.dumps(what), flush=True)

    rows = [json.loads(line) for line in TICKETS.read_text().splitlines()]
    devset = [dspex.Example(**rows[n % len(rows)]).with_inputs("ticket") for n in range(COUNT)]
    with dspex.connect(lm="embedded/nearest") as system:
        system.subscribe_nodes(lambda event: tell(down=event.member.name) if event.kind == "nodedown" else None)
        result = dspex.evaluate(
            Triage(),
            devset,
            dspex.metrics.exact_match("team"),
            max_in_flight=IN_FLIGHT,
            on_progress=lambda summary: tell(done=summary["done"]),
        )
        indices = {one.index for one in result.results}
        tell(result={"done": len(indices), "failed": result.failed, "nodes": result.nodes})
    return 0


def main() -> int:
    """Go into a namespace of our own, where we may do all this, then tell the story."""
    if "--client" in sys.argv:
        return client()
    if "--inside" not in sys.argv:
        missing = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
        if missing:
            return not_here(f"there is no `{missing[0]}`")
        own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        command = ["unshare", *own, "--net", "--uts"]
        tried = subprocess.run([*command, "true"], check=False, capture_output=True, text=True)
        if tried.returncode:
            return not_here(tried.stderr.strip())
        os.execvp(command[0], [*command, sys.executable, __file__, "--inside"])
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("ended"))  # what was made is removed
    with tempfile.TemporaryDirectory(prefix="dspex-hosts-") as home:
        try:
            return story(Path(home))
        except NotHereError as error:
            return not_here(str(error))


def not_here(why: str) -> int:
    """Say why it cannot be shown on this machine."""
    console.print(f"two hosts cannot be shown on this machine: {why}")
    return NOT_HERE


if __name__ == "__main__":
    sys.exit(main())
