"""`dspex`: the command line's entrance. Every command is in a module of its own, imported when it is called."""

from __future__ import annotations

from typing import Any

import click

from dspex_actors.cli.shell import LazyGroup

_HERE = "dspex_actors.cli"
#: Command → (where it is, what it does); grouped as the help shows them. One that has no words of its own stands on the
#: line of the one before.
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Run programs": {
        "evaluate": (f"{_HERE}.evaluate:evaluate", "evaluate a program on a dataset"),
        "optimize": (f"{_HERE}.optimize:optimize", "make a better one of it; list, show, compare, resume"),
        "optimizations": (f"{_HERE}.optimizations:optimizations", ""),
        "runs": (f"{_HERE}.runs:runs", "list runs; show, resume, export, compare or end one"),
        "provider": (f"{_HERE}.provider:provider", "serve the stand-in LM, without a provider, in four wire formats"),
    },
    "The node of this host": {
        "start": (f"{_HERE}.node:start", "start the node; stop it, children first"),
        "stop": (f"{_HERE}.node:stop", ""),
        "status": (f"{_HERE}.look:status", "is it healthy?"),
        "tree": (f"{_HERE}.tree:tree", "the supervision tree; --watch keeps it on the screen"),
        "ecosystem": (f"{_HERE}.ecosystem:ecosystem", "list and show what serves programs"),
        "modules": (f"{_HERE}.modules:modules", "programs that it serves by name: list, show, roll back"),
        "services": (f"{_HERE}.services:services", "who does what on it, and how each is"),
        "config": (f"{_HERE}.config:config", "what is set, and who says so; set it"),
        "top": (f"{_HERE}.top:top", "what each process does: messages, CPU, memory"),
    },
    "The cluster": {
        "nodes": (f"{_HERE}.nodes:nodes", "its members; `start --join HOST:PORT` joins one"),
        "key": (f"{_HERE}.key:key", "show its key, or import that of another host"),
        "drain": (f"{_HERE}.nodes:drain", "have a node finish, hand over, leave and stop"),
        "cordon": (f"{_HERE}.nodes:cordon", "give a node no new work; give it work again"),
        "uncordon": (f"{_HERE}.nodes:uncordon", ""),
        "journal": (f"{_HERE}.journal:journal", "copy runs into another journal, and compare"),
    },
    "What happens": {
        "lm": (f"{_HERE}.lm:lm", "language models: list, test, limits, stats"),
        "metrics": (f"{_HERE}.metrics:metrics", "what was counted and measured; --watch keeps it on the screen"),
        "cost": (f"{_HERE}.cost:cost", "what LM calls have cost, by model, run, tag, user"),
        "cache": (f"{_HERE}.cache:cache", "what answers are cached, how often they are used; clear them"),
        "events": (f"{_HERE}.events:events", "what happened on the node; -f follows"),
        "trace": (f"{_HERE}.trace:trace", "what belongs together, as a tree with durations"),
    },
    "When something is wrong": {
        "logs": (f"{_HERE}.logs:logs", "what the node's processes say"),
        "failures": (f"{_HERE}.failures:failures", "what died, when and why; --traceback, --history"),
        "doctor": (f"{_HERE}.doctor:doctor", "check this host; --fix cleans up after a crash"),
    },
}


#: What a node that only works (`--role worker`) has nothing for.
_OF_FULL_NODES = frozenset(
    (
        *("evaluate", "optimize", "optimizations", "runs", "ecosystem", "modules", "services"),
        *("metrics", "cost", "cache", "events", "trace", "journal"),
    )
)


class _Dspex(LazyGroup):
    """The top command, with a help that fits on one screen."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Refuse what the node of this host cannot do."""
        if args[0] in _OF_FULL_NODES and not ctx.resilient_parsing and not {"-h", "--help"} & set(args):
            from dspex_actors.cli.joining import check_here

            check_here()
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what there is, without importing any of it."""
        title = click.style("dspex", bold=True)
        formatter.write(f"  {title} - language-model programs on a supervision tree of actors\n")
        for section, commands in SECTIONS.items():
            formatter.write(f"\n  {click.style(section, fg='cyan')}\n")
            for names, line in _lines(commands):
                formatter.write(f"    {click.style(names.ljust(10), bold=True)}{line}\n")
        formatter.write(
            "\n  dspex COMMAND --help says more. Commands that read take --json.\n"
            "  Data folder: DSPEX_HOME (default ~/.dspex). Settings: dspex.toml, then DSPEX_* variables.\n\n"
        )


def _lines(commands: dict[str, tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the commands of a section as the help shows them: names, and what they do."""
    found: list[tuple[str, str]] = []
    for name, (_, line) in commands.items():
        if line:
            found.append((name, line))
        else:
            before, words = found[-1]
            found[-1] = f"{before}, {name}  ", words
    return found


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"dspex {version('dspex-actors')}")
        ctx.exit()


@click.group(
    cls=_Dspex,
    lazy={name: entry for commands in SECTIONS.values() for name, entry in commands.items()},
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.pass_context
def dspex(ctx: click.Context) -> None:
    """Language-model programs on a supervision tree of actors."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Run the command line and exit."""
    dspex.main(prog_name="dspex")
