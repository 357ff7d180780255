"""Logs: what a library repeats is told once in a while."""

import logging

from shared.runtime.telemetry import Seldom


def record(name: str, template: str, at: float, *words: object) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.ERROR, "", 0, template, words, None)
    made.created = at
    return made


def test_each_kind_of_message_passes_once_in_a_while() -> None:
    seldom = Seldom("aiokafka", seconds=10)
    passed = [
        (at, word)
        for at in range(0, 25, 5)
        for word in ("one", "other")
        if seldom.filter(record("aiokafka.client", "Unable to " + word + " %s", at, at))
    ]
    assert passed == [(at, word) for at in (0, 10, 20) for word in ("one", "other")]


def test_other_loggers_are_not_held_back() -> None:
    seldom = Seldom("aiokafka", seconds=10)
    assert all(seldom.filter(record("services.write", "again", at)) for at in range(5))
