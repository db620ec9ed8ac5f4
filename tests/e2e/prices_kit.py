"""Nodes that know prices: what an LM of a test costs, in dollars for a million tokens."""

import contextlib

import pytest

INPUT, OUTPUT = 10.0, 100.0


def use_folder(patch, folder):
    """Have what is started from now on look for its data, and for prices, in a folder of `at_prices`."""
    patch.setenv("DSPEX_PRICES", str(folder / "prices.toml"))
    patch.setenv("DSPEX_HOME", str(folder / "home"))


@contextlib.contextmanager
def at_prices(folder, *models):
    """Write down what models cost, in a folder that nodes that are started meanwhile have."""
    rows = [f'["{model}"]\ninput = {INPUT}\noutput = {OUTPUT}\n' for model in models]
    (folder / "prices.toml").write_text("".join(rows))
    with pytest.MonkeyPatch.context() as patch:
        use_folder(patch, folder)
        yield
