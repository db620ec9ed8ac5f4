"""Print the identities of everything in the kit as JSON: what another process computes."""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import identity_kit

import dspex_actors as dspex
from dspex_actors.client.spools import place
from dspex_actors.data.opening import open_dataset
from dspex_actors.runs.identity.parts import metric_identity, program_identity


def identities():
    """Return name → parts of each."""
    found = {f"metric {name}": metric_identity(make()).parts for name, make in identity_kit.METRICS.items()}
    found |= {f"program {name}": program_identity(make()).parts for name, make in identity_kit.PROGRAMS.items()}
    return found | {f"dataset of {name}": dataset_digest(make) for name, make in identity_kit.VALUES.items()}


def dataset_digest(make):
    """Return the digest of a list of examples with such a value."""
    rows = [dspex.Example(q=make(), a=make()).with_inputs("q") for _ in range(3)]
    with tempfile.TemporaryDirectory() as folder:
        return place(open_dataset(rows), Path(folder), "r").digest


if __name__ == "__main__":
    print(json.dumps(identities()))
