"""The states of jobs in SQL are those of `JobState`, by name."""

import re
from pathlib import Path

import pytest

import services.write.evaluator
from services.write.evaluator.jobs import JobState

FOLDER = Path(services.write.evaluator.__file__).parent
NAMED = re.compile(r"(\d) /\* (\w+) \*/")
UNNAMED = re.compile(r"\b(?:jobs|held|stored)\.state (?:=|<>|<|>) \d(?! /\*)")


@pytest.mark.parametrize("name", ["jobs.sql", "runs.sql"])
def test_every_number_of_a_state_has_its_name(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    named = NAMED.findall(text)
    assert named
    assert [f"{number} {word}" for number, word in named if JobState(int(number)).name.lower() != word] == []
    assert UNNAMED.findall(text) == []
