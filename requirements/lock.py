"""Write lock.txt and build.txt: the newest release of everything that pyproject.toml allows, with all hashes.

One lock for every Python and system: a line that is for some of them says which. No address of a registry goes in.
"""

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "requirements"
HEADER = "# Written by `make lock`. All files of each release: Linux and macOS, every Python from 3.11 on.\n"
#: Without files for Macs with Intel's processors from 49 on; nothing is to need a compiler anywhere.
LIMITS = """
cryptography<49; sys_platform == 'darwin' and platform_machine == 'x86_64'
cryptography>=49; sys_platform != 'darwin' or platform_machine != 'x86_64'
"""


def resolve(python: Path, requirements: str, *sources: str) -> str:
    """Return the lock of some requirements, and of what files name beside them."""
    command = [python, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    options = ["--universal", "--python-version", "3.11", "--generate-hashes"]
    addresses = ["--no-emit-index-url", "--no-emit-find-links"]
    done = subprocess.run(
        [*command, *options, *addresses, *sources, "-"],
        cwd=ROOT, input=requirements, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    if "://" in done.stdout:
        sys.exit("the lock is invalid: it has an address in it, expected names, versions and hashes only")
    return HEADER + done.stdout


def main() -> None:
    """Resolve in an environment of its own, which is gone afterwards."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "uv"], check=True)
        build = resolve(python, "\n".join(project["build-system"]["requires"]))
        lock = resolve(python, LIMITS, "pyproject.toml", "--extra", "dev")
    (HERE / "build.txt").write_text(build)
    (HERE / "lock.txt").write_text(lock)


if __name__ == "__main__":
    main()
