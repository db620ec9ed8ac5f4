"""What `dspex doctor` says of code that LMs have written: whether this host can keep it in. It is tried."""

from __future__ import annotations

from dspex_actors.cli.checks import OK, WARN, Finding

_CHECK = "code of LMs"


def code() -> Finding:
    """Start an interpreter as ProgramOfThought and CodeAct do, and say what keeps its code in."""
    from dspex_actors.sandbox.errors import CodeInterpreterError
    from dspex_actors.sandbox.interpreter import PythonInterpreter

    python = PythonInterpreter()
    try:
        python.execute("6 * 7")
        by, lacks = python.protections or {}, python.lacks or {}
    except CodeInterpreterError as error:
        fix = (
            "ProgramOfThought and CodeAct run nothing here; they do on Linux 5.13 or newer, in containers that leave "
            "Landlock and seccomp switched on"
        )
        return Finding(_CHECK, WARN, str(error), fix)
    finally:
        python.shutdown()
    text = "; ".join(f"{what}: {', '.join(parts) or 'not protected'}" for what, parts in by.items())
    missing = "; ".join(f"no {part} ({why})" for part, why in lacks.items())
    return Finding(_CHECK, OK, f"is run in a sandbox: {text}" + (f"; {missing}" if missing else ""))
