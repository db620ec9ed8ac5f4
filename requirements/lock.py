"""Write lock.txt: the newest release of everything that pyproject.toml allows, its build too, with all hashes.

One lock for every Python and system: a line that is for some of them says which. No address of a registry goes in.
"""

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "lock.txt"
HEADER = "# Written by `make lock`. All files of each release: Linux and macOS, every Python from 3.11 on.\n"


def main() -> None:
    """Resolve in an environment of its own, which is gone afterwards."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build = "\n".join(project["build-system"]["requires"])
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "uv"], check=True)
        command = [python, "-m", "uv", "pip", "compile", "--quiet"]
        options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate"]
        addresses = ["--no-emit-index-url", "--no-emit-find-links"]
        done = subprocess.run(
            [*command, *options, *addresses, "pyproject.toml", "--extra", "dev", "-"],
            cwd=ROOT, input=build, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    if "://" in done.stdout:
        sys.exit("the lock is invalid: it has an address in it, expected names, versions and hashes only")
    LOCK.write_text(HEADER + done.stdout)


if __name__ == "__main__":
    main()
