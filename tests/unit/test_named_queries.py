"""Files of named queries: what is read from them, and what is refused."""

from pathlib import Path

import pytest

from shared.storage.named_queries import InvalidQueriesError, load_queries

DATASETS = """-- What is known of datasets.

-- name: find_dataset
-- A dataset as it is now.
SELECT dataset_id FROM datasets
WHERE name = $1 -- name: is no header here

-- name: count_items
SELECT count(*) FROM dataset_items
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "datasets.sql"
    path.write_text(DATASETS, encoding="utf-8")
    return path


def test_each_query_has_its_text_and_its_comments(path: Path) -> None:
    queries = load_queries(path)
    assert dict(queries) == {
        "find_dataset": (
            "-- A dataset as it is now.\nSELECT dataset_id FROM datasets\nWHERE name = $1 -- name: is no header here"
        ),
        "count_items": "SELECT count(*) FROM dataset_items",
    }


def test_a_file_is_read_once(path: Path) -> None:
    first = load_queries(path)
    path.unlink()
    assert load_queries(path) is first


def test_an_unknown_name_says_which_there_are(path: Path) -> None:
    with pytest.raises(InvalidQueriesError, match=r"datasets\.sql: no query is named 'drop'; there are find_d"):
        load_queries(path)["drop"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no line begins a query"),
        ("SELECT 1", "no line begins a query"),
        ("SELECT 1\n-- name: one\nSELECT 1", "SQL before the first"),
        ("-- name: one\nSELECT 1\n-- name: one\nSELECT 2", "two queries are named 'one'"),
        ("-- name: one\n-- name: two\nSELECT 2", "query 'one' is empty"),
        ("-- name: one\n-- Only a comment.", "query 'one' is empty"),
        ("-- name: One\nSELECT 1", "'One' is not a name"),
        ("-- name: one two\nSELECT 1", "'one two' is not a name"),
        ("-- name:\nSELECT 1", "'' is not a name"),
        ("--name:\nSELECT 1", "'' is not a name"),
    ],
)
def test_a_file_that_does_not_follow_the_format_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "wrong.sql"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidQueriesError, match=reason) as refused:
        load_queries(path)
    assert str(path) in str(refused.value)
