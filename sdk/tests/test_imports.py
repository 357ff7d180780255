"""Importing the SDK loads what tracing needs, and nothing else: it is in the start of every program that traces."""

import subprocess
import sys

import lodestream
import pytest

LATE = ("asyncio", "grpc", "google.protobuf", "lodestream_proto", "rich", "re2", "jsonschema_rs", "rapidfuzz")
PROGRAM = """
import sys
import lodestream
print(*(name for name in sys.argv[1:] if name in sys.modules))
print(*(name for name in sys.modules if name.startswith(("lodestream._experiments.", "lodestream._datasets."))))
"""


def test_what_only_some_programs_need_is_not_imported() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *LATE], capture_output=True, text=True, check=True)
    late, ours = ran.stdout.split("\n")[:2]
    assert late.split() == []
    assert sorted(ours.split()) == [
        "lodestream._datasets.errors",
        "lodestream._experiments.errors",
    ]


@pytest.mark.parametrize("name", lodestream.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(lodestream, name) is not None


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        lodestream.nonsense  # noqa: B018
