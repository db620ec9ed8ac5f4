"""Print the identities of everything in the kit as JSON: what another process computes."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import identity_kit

from dspex_actors.runs.identity.parts import metric_identity, program_identity


def identities():
    """Return name → parts of each."""
    found = {f"metric {name}": metric_identity(make()).parts for name, make in identity_kit.METRICS.items()}
    return found | {f"program {name}": program_identity(make()).parts for name, make in identity_kit.PROGRAMS.items()}


if __name__ == "__main__":
    print(json.dumps(identities()))
