"""``python -m dspex_actors``: the `dspex` command."""

from __future__ import annotations

from dspex_actors.cli.main import main

if __name__ == "__main__":
    main()
