"""`dspex`: the command line's entrance. Every command is in a module of its own, imported when it is called."""

from __future__ import annotations

import click

from dspex_actors.cli.shell import LazyGroup

_HERE = "dspex_actors.cli"
#: Command → (where it is, what it does); grouped as the help shows them.
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Run programs": {
        "evaluate": (f"{_HERE}.evaluate:evaluate", "evaluate a program on a dataset"),
        "runs": (f"{_HERE}.runs:runs", "list runs; show, resume, export, compare or end one"),
    },
    "The node of this host": {
        "start": (f"{_HERE}.node:start", "start the node"),
        "stop": (f"{_HERE}.node:stop", "stop it, children first"),
        "status": (f"{_HERE}.look:status", "is it healthy?"),
        "nodes": (f"{_HERE}.look:nodes", "the members of the cluster"),
        "tree": (f"{_HERE}.look:tree", "the supervision tree; --watch keeps it on the screen"),
        "top": (f"{_HERE}.top:top", "what each process does: messages, CPU, memory"),
    },
    "When something is wrong": {
        "logs": (f"{_HERE}.logs:logs", "what the node's processes say"),
        "failures": (f"{_HERE}.failures:failures", "what died, when and why; --traceback, --history"),
        "doctor": (f"{_HERE}.doctor:doctor", "check this host; --fix cleans up after a crash"),
    },
    "Without a provider": {
        "provider": (f"{_HERE}.provider:provider", "serve the stand-in LM in four wire formats"),
    },
}


class _Dspex(LazyGroup):
    """The top command, with a help that fits on one screen."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what there is, without importing any of it."""
        title = click.style("dspex", bold=True)
        formatter.write(f"\n  {title} - language-model programs on a supervision tree of actors\n")
        for section, commands in SECTIONS.items():
            formatter.write(f"\n  {click.style(section, fg='cyan')}\n")
            for name, (_, line) in commands.items():
                formatter.write(f"    {click.style(name.ljust(10), bold=True)}{line}\n")
        formatter.write(
            "\n  dspex COMMAND --help says more. Commands that read take --json.\n"
            "  Data folder: DSPEX_HOME (default ~/.dspex). Settings: dspex.toml, then DSPEX_* variables.\n\n"
        )


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
