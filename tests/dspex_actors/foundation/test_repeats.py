"""Errors that come again and again are logged with their traceback once."""

import logging

from dspex_actors.foundation.repeats import MOST_KNOWN, Repeats


def raised(kind, text):
    try:
        raise kind(text)
    except Exception as error:
        return error


def other(text):
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


class Broken(Exception):
    def __str__(self):
        raise RuntimeError


def test_each_traceback_is_logged_once_and_then_how_often_it_came(caplog):
    repeats = Repeats(logging.getLogger("repeats"))
    for number in range(150):
        repeats.log(raised(ValueError, f"number {number}"), "it failed")
    repeats.log(raised(KeyError, "x"), "it failed")
    repeats.log(other("elsewhere"), "it failed", level=logging.WARNING)
    told = [(record.levelname, record.getMessage(), record.exc_info is not None) for record in caplog.records]
    assert told == [
        ("ERROR", "it failed", True),
        ("ERROR", "it failed; as before, the 10th time: ValueError: number 9", False),
        ("ERROR", "it failed; as before, the 100th time: ValueError: number 99", False),
        ("ERROR", "it failed", True),
        ("WARNING", "it failed", True),
    ]


def test_the_last_one_is_logged_in_any_case_in_one_line(caplog):
    repeats = Repeats(logging.getLogger("repeats"))
    for _ in range(2):
        repeats.log(raised(Broken, ""), "it failed", last=True)
    assert caplog.records[-1].getMessage() == "it failed; as before, the 2th time: Broken: ?"


def test_not_all_errors_of_a_life_are_kept():
    repeats = Repeats(logging.getLogger("repeats"))
    for number in range(10 * MOST_KNOWN):
        repeats.log(raised(type(f"E{number}", (Exception,), {}), ""), "it failed")
    assert len(repeats._seen) <= MOST_KNOWN
