"""Every row of OTP's semantics has a test, or a reason why not; the page that says so is up to date."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def rows():
    spec = importlib.util.spec_from_file_location("make_otp_rows", ROOT / "docs" / "make_otp_rows.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_row_is_without_a_test_or_a_reason(rows):
    assert rows.missing(rows.tests_by_row(ROOT / "tests")) == []


def test_the_page_is_what_the_tests_say(rows):
    made = rows.page(rows.tests_by_row(ROOT / "tests"))
    assert rows.PAGE.read_text() == made, "run `python docs/make_otp_rows.py`"


def test_a_row_that_has_both_a_test_and_a_reason_needs_no_reason(rows):
    assert not set(rows.REASONS) & set(rows.tests_by_row(ROOT / "tests"))


@pytest.mark.parametrize(
    ("text", "found"), [("26, 37", ["26", "37"]), ("G1-3, bad input", ["G1", "G2", "G3"]), ("62 to 63", ["62", "63"])]
)
def test_how_a_comment_is_read(rows, text, found):
    assert rows.expand(text) == found


def test_a_row_that_cannot_be_read_is_refused(rows):
    with pytest.raises(ValueError, match="no row number"):
        rows.expand("26a")
