"""What all commands have in common: commands loaded when they are used, errors as one line, exit statuses.

0: healthy or done. 1: degraded or failed. 2: unreachable or misused. 130: ended by Ctrl-C.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

import click

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called.

    Args:
        lazy: name → (`module:attribute`, one line for the help).
    """

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        """Remember where the commands are."""
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which they were given."""
        return list(self.lazy)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their lines, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.lazy.items()])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        if name not in self.lazy:
            return None
        module, _, attribute = self.lazy[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def main(  # type: ignore[override]  # it never returns, standalone or not
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run a command line; errors become one line on standard error, and the exit status."""
        extra["standalone_mode"] = False
        # A plain `kill` ends a command as Ctrl-C does: a run is paused, an own node is taken down. And a shell starts
        # what it puts into the background deaf to Ctrl-C; who sends that signal to it by number means it.
        signals = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, _as_interrupt) for number in signals}
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # Where a terminal or pipe has no place for a character, a page shows another one; data is escaped.
                stream.reconfigure(errors="replace")
        try:
            status = super().main(args, prog_name, **extra)
        except BaseException as error:
            status = explain(error)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        sys.exit(status if isinstance(status, int) else DONE)


def _as_interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


def explain(error: BaseException) -> int:
    """Print what went wrong in one line and return the exit status."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED
    if isinstance(error, (KeyboardInterrupt, click.Abort, click.exceptions.Exit)):
        return error.exit_code if isinstance(error, click.exceptions.Exit) else INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has enough; what is still in the buffer must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)  # a page, which one line is no place for
        return MISUSED
    status, message = _status_of(error)
    if os.environ.get("DSPEX_DEBUG"):
        import traceback

        traceback.print_exception(error)
    say_error(message)
    return status


def _status_of(error: BaseException) -> tuple[int, str]:
    from dspex_actors.errors import ConfigError, DspexError
    from supervisors.errors import SupervisorsError
    from supervisors.wire.keys import KeyFileError

    if isinstance(error, click.ClickException):
        hint = ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f" (see `{error.ctx.command_path} --help`)"
        return MISUSED, error.format_message().rstrip(".") + hint
    if isinstance(error, (SupervisorsError, KeyFileError, ConfigError)):
        return MISUSED, str(error)
    if isinstance(error, DspexError):
        return FAILED, error.message
    if isinstance(error, PermissionError) and _is_of_home(error.filename):
        return MISUSED, f"{error.filename} is not open to this user: run as its owner, or choose another DSPEX_HOME"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return FAILED, f"{where}{error.strerror or error}"
    return FAILED, f"unexpected {type(error).__name__}: {error} (DSPEX_DEBUG=1 shows where; please report it)"


def _is_of_home(filename: object) -> bool:
    from dspex_actors.foundation.home import default_data_dir

    return str(filename).startswith(str(default_data_dir().absolute()))


def say_error(message: str) -> None:
    """Print one line on standard error, red where that is a terminal."""
    line = " ".join(message.split())
    click.echo(f"{click.style('error:', fg='red', bold=True)} {line}", err=True)


def say_note(message: str) -> None:
    """Print one line on standard error that is no error."""
    click.echo(click.style(" ".join(message.split()), fg="yellow"), err=True)
