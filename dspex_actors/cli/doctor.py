"""`dspex doctor`: look at everything that can be wrong with a node on this host, and clean up after a crash."""

from __future__ import annotations

import click
from rich.text import Text

from dspex_actors.cli.check_code import code
from dspex_actors.cli.checks import FAIL, OK, WARN, Finding, all_findings
from dspex_actors.cli.output import console, json_option, print_json, table
from dspex_actors.cli.shell import DONE, FAILED
from dspex_actors.config import Config, load_config
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.home import default_data_dir

_MARKS = {OK: ("✓", "green"), WARN: ("!", "yellow"), FAIL: ("✗", "red"), "mended": ("✓", "cyan")}


@click.command()
@click.option("--fix", is_flag=True, help="Remove what a crash left behind: stale files, processes without a node.")
@click.option(
    "--config", "config_file", type=click.Path(), metavar="F", help="The configuration.  [default: ./dspex.toml]"
)
@json_option
def doctor(fix: bool, config_file: str | None, as_json: bool) -> int:
    """Check this host: versions, folder, key, node, leftovers, port, journals, disk, open files, clock, code of LMs.

    Exit status 1 when something has to be done.
    """
    home = default_data_dir().absolute()
    found: list[Finding] = []
    try:
        config = load_config(config_file)
    except ConfigError as error:
        found.append(Finding("configuration", FAIL, error.message, "mend that file or variable"))
        config = Config()
    found += [*all_findings(home, config), code()]
    if fix:
        found = [_mended(one) for one in found]
    if as_json:
        print_json([{"check": one.check, "state": one.state, "text": one.text, "fix": one.fix} for one in found])
    else:
        _show(found)
    return FAILED if any(one.state == FAIL for one in found) else DONE


def _mended(finding: Finding) -> Finding:
    if finding.mend is None:
        return finding
    try:
        return Finding(finding.check, "mended", f"{finding.text}: {finding.mend()}")
    except OSError as error:
        return Finding(finding.check, FAIL, f"{finding.text}: not mended, {error}", "do it by hand")


def _show(found: list[Finding]) -> None:
    out = console()
    shown = table("", "check", ("found", {"overflow": "fold"}))
    for one in found:
        mark, colour = _MARKS[one.state]
        text = Text(one.text, style="" if one.state == OK else colour)
        if one.fix is not None:
            text.append(f"\n→ {one.fix}", style="bold")
        shown.add_row(Text(mark, style=f"bold {colour}"), one.check, text)
    out.print(shown)
    fails, warns = (sum(one.state == state for one in found) for state in (FAIL, WARN))
    mendable = any(one.mend is not None for one in found)
    words = f"{fails} to mend, {warns} to know" if fails or warns else "all is well"
    colour = "red" if fails else "yellow" if warns else "green"
    out.print(f"\n[bold {colour}]{words}[/]" + ("  [dim]dspex doctor --fix does what it can[/]" if mendable else ""))
