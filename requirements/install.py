"""Make the project's virtual environment: `python requirements/install.py FOLDER [--newest]`.

It has what lock.txt and build.txt say, to the byte, or with --newest the newest of everything that pyproject.toml
allows, and the project itself, editable. Two of these at once wait for each other. One that is broken off leaves no
stamp (FOLDER's file .installed), so the next one begins anew; one that finds nothing changed since does nothing.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this is who refuses an older one
    found = sys.version.split()[0]
    sys.exit("dspex-actors needs Python 3.11 or newer, this is " + found + "; set PYTHON=python3.12, say")

import fcntl
import hashlib
import json
import subprocess
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK, BUILD = (ROOT / "requirements" / name for name in ("lock.txt", "build.txt"))


def wanted(newest: bool) -> str:
    """Return what an installation depends on, as a digest: settings of linters in pyproject.toml are no part of it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    parts = [sys.version, newest, project["build-system"], project["project"], project["tool"]["setuptools"]]
    return hashlib.sha256(json.dumps(parts).encode() + LOCK.read_bytes() + BUILD.read_bytes()).hexdigest()


def install(folder: Path, newest: bool) -> None:
    """Empty the folder and install into it."""
    venv.create(folder, clear=True, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    if newest:
        steps = [["--editable", f"{ROOT}[dev]"]]
    else:
        # Thespian and this project are built here: by what build.txt says, not by the newest of the day.
        built_here = ["--no-build-isolation", "--use-pep517"]
        steps = [
            ["--require-hashes", "-r", BUILD],
            ["--require-hashes", *built_here, "-r", LOCK],
            ["--no-deps", *built_here, "--editable", ROOT],
        ]
    for step in steps:
        subprocess.run([*pip, *step], check=True)


def main() -> int:
    """Install if anything has changed."""
    if not (folders := [word for word in sys.argv[1:] if not word.startswith("-")]):
        sys.exit("the folder is missing: python requirements/install.py FOLDER [--newest]")
    folder, newest = Path(folders[0]).resolve(), "--newest" in sys.argv[1:]
    if ROOT.is_relative_to(folder):  # it is emptied
        sys.exit(
            f"the folder is invalid: got {folder}, which has the project in it, expected one for the environment alone"
        )
    stamp = folder / ".installed"
    with folder.with_name(folder.name + ".lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # let go of when this process ends, however it ends
        digest = wanted(newest)
        if newest or not stamp.exists() or stamp.read_text() != digest:
            print(f"installing into {folder.name} ...", flush=True)
            stamp.unlink(missing_ok=True)
            try:
                install(folder, newest)
            except subprocess.CalledProcessError as error:
                return error.returncode
        stamp.write_text(digest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
