import contextlib

import pytest
from e2e_kit import Host, LMServer


@pytest.fixture
def server():
    """Make stand-in LMs: server(*options)."""
    with contextlib.ExitStack() as stack:

        def make(*options):
            made = LMServer(*options)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def host(home):
    """A daemon over the test's DSPEX_HOME; killed at the end."""
    one = Host(home)
    try:
        yield one.start()
    finally:
        one.close()


@pytest.fixture(scope="module")
def shared_host(tmp_path_factory):
    """A daemon with two workers for all tests of a file; killed at the end."""
    one = Host(tmp_path_factory.mktemp("shared"), workers=2)
    try:
        yield one.start()
    finally:
        one.close()
