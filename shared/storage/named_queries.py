"""Named queries: the statements of one resource in one `.sql` file beside the module that runs them.

A line `-- name: get_dataset` begins each query; comments may stand before the first one and inside each:

    -- What is known of datasets.

    -- name: find_dataset
    -- A dataset as it is now.
    SELECT dataset_id, name FROM datasets WHERE project_id = $1 AND name = $2

A module loads its file at import and binds each query that it runs to a constant, so that a name the file does not
hold stops the import:

    _QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
    _FIND_DATASET = _QUERIES["find_dataset"]

That every query of every file is used is tested in `tests/architecture/test_named_queries.py`.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

_HEADER = re.compile(r"^--\s*name\s*:(?P<name>.*)$", re.MULTILINE)
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_COMMENT = re.compile(r"--.*")


class InvalidQueriesError(Exception):
    """A file of named queries does not follow the format, or does not hold the query that is wanted."""


@cache
def load_queries(path: Path) -> "Queries":
    """Read and check a file of named queries; a file is read once per process.

    Raises:
        InvalidQueriesError: The file does not follow the format; the message names the file and the reason.
        OSError: The file can't be read.
    """
    return Queries(path, _parse(path, path.read_text(encoding="utf-8")))


def is_named(path: Path) -> bool:
    """Return whether a `.sql` file holds named queries (rather than one statement without a name)."""
    return _HEADER.search(path.read_text(encoding="utf-8")) is not None


class Queries(Mapping[str, str]):
    """The queries of one file by name, in the file's order."""

    def __init__(self, path: Path, statements: dict[str, str]) -> None:
        self._path, self._statements = path, statements

    def __getitem__(self, name: str) -> str:
        """Return the text of a query.

        Raises:
            InvalidQueriesError: The file holds no such query; the message names those that it holds.
        """
        try:
            return self._statements[name]
        except KeyError:
            names = ", ".join(self._statements)
            raise InvalidQueriesError(f"{self._path}: no query is named {name!r}; there are {names}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)


def _parse(path: Path, text: str) -> dict[str, str]:
    headers = list(_HEADER.finditer(text))
    if not headers:
        raise InvalidQueriesError(f"{path}: no line begins a query (`-- name: the_name`)")
    if _without_comments(text[: headers[0].start()]):
        raise InvalidQueriesError(f"{path}: there is SQL before the first `-- name:` line")
    statements: dict[str, str] = {}
    ends = [header.start() for header in headers[1:]] + [len(text)]
    for header, end in zip(headers, ends, strict=True):
        name, statement = header["name"].strip(), text[header.end() : end].strip()
        if not _NAME.fullmatch(name):
            raise InvalidQueriesError(f"{path}: {name!r} is not a name of a query (a-z, 0-9 and _)")
        if name in statements:
            raise InvalidQueriesError(f"{path}: two queries are named {name!r}")
        if not _without_comments(statement):
            raise InvalidQueriesError(f"{path}: query {name!r} is empty")
        statements[name] = statement
    return statements


def _without_comments(sql: str) -> str:
    return _COMMENT.sub("", sql).strip()
