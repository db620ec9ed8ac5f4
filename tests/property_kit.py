"""How many examples a property tries: all in `make soak`; every day a third, since what more of them find is rare."""

import os

#: Whether `make soak` runs.
SOAKS = "SOAK_SECONDS" in os.environ


def examples(count):
    """Return how many of so many examples are tried."""
    return count if SOAKS else max(5, count // 3)
