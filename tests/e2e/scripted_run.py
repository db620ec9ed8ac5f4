"""A program that optimises with a scripted LM: HOME WHAT CASE BOOK RUN_ID."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]  # in this order: folders of tests have the packages' names

import optimised_kit  # noqa: E402 - the path comes first

import dspex_actors as dspex  # noqa: E402 - as before

if __name__ == "__main__":
    home, what, case, book, run_id = sys.argv[1:]
    with dspex.connect(home=home, lm=optimised_kit.Booked(book, 0.02)):
        _, compile_ = getattr(optimised_kit, what)(case, run_id=run_id, display_progress=False, max_in_flight=4)
        compile_()
