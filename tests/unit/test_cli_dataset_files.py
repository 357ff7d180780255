"""Files of dataset items: what is read, what is refused and why, and that what is written reads back."""

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lodestream_proto.v1.datasets_pb2 import DatasetItem
from lodestream_proto.v1.experiment_event_pb2 import DatasetItemRecorded

from services.edge.cli.dataset_export import json_line, write_csv, write_jsonl
from services.edge.cli.dataset_files import (
    NotReadableError,
    RefusedRow,
    Row,
    as_cell,
    as_json,
    format_of,
    guarded,
    members,
    read_rows,
    unguarded,
)
from services.edge.cli.dataset_items import Mapping, MappingError, Part, check_columns, item_of, part
from shared.rules.experiment_ids import item_id_of

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def opened(content: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(content))


def read(content: str | bytes, file_format: str = "csv", **options: Any) -> list[Row | RefusedRow]:
    raw = content.encode() if isinstance(content, str) else content
    return list(read_rows(opened(raw), file_format, **options))


def values(row: Row | RefusedRow) -> dict[str, Any]:
    assert isinstance(row, Row), row
    return {name: json.loads(text) for name, text in row.fields.items()}


def item(row: Row, **mapping: Any) -> DatasetItemRecorded:
    made = item_of(row, Mapping(**mapping))
    assert isinstance(made, DatasetItemRecorded), made
    return made


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("question,answer\nä,b\n", {}),
        ("\ufeffquestion,answer\r\nä,b\r\n", {}),
        ("question;answer\nä;b\n", {}),
        ("question\tanswer\nä\tb\n", {}),
        ("question,answer\nä,b".encode("utf-16"), {}),
        ("question,answer\nä,b".encode("latin-1"), {"encoding": "latin-1"}),
        ('"question","answer"\n"ä","b"\n', {}),
        ("question,answer\n\n,\nä,b\n", {}),
    ],
    ids=["plain", "bom, crlf", "semicolons", "tabs", "utf-16", "latin-1", "quoted", "empty lines"],
)
def test_csv_is_read_however_it_was_saved(content: str | bytes, options: dict[str, str]) -> None:
    (row,) = read(content, **options)
    assert values(row) == {"question": "ä", "answer": "b"}


def test_quotes_hold_delimiters_quotes_and_lines_and_lines_are_counted() -> None:
    rows = read('q,a\n"one, ""two""\nthree",x\nfour,y\n')
    assert [(row.line, values(row)["q"]) for row in rows] == [(2, 'one, "two"\nthree'), (4, "four")]


def test_a_bad_row_is_refused_with_its_line_and_the_good_ones_stay() -> None:
    rows = read(b'q,a\none,1\ntwo\nthree,3,x\n\xff,4\nfive,5\n"six"x,6\nseven,7\n')
    assert [(row.line, isinstance(row, RefusedRow)) for row in rows] == [
        (2, False), (3, True), (4, True), (5, True), (6, False), (7, True), (8, False),
    ]  # fmt: skip
    reasons = [row.reason for row in rows if isinstance(row, RefusedRow)]
    assert reasons[0] == "has 1 cell; the header names 2"
    assert "0xff" in reasons[2]


def test_a_quote_that_is_not_closed_is_told_with_its_line() -> None:
    with pytest.raises(NotReadableError, match=r"^3: a quote is opened here"):
        read('q,a\none,1\n"two,2\nthree,3\n')
    with pytest.raises(NotReadableError, match=r"^1: the header names 'q' more than once"):
        read("q,q\n1,2\n")


@pytest.mark.parametrize(
    ("content", "file_format"), [("q\n1\n2\n", "csv"), ("{}\n{}\n", "jsonl"), ("[{}, {}]", "json")]
)
def test_a_file_that_is_given_up_stays_its_openers(content: str, file_format: str) -> None:
    file = opened(content.encode())
    rows = read_rows(file, file_format)
    next(rows)
    rows.close()
    assert not file.closed


def test_a_huge_cell_is_read_and_refused_as_an_item_only() -> None:
    (row,) = read(f"input\n{'x' * 2_000_000}\n")
    assert isinstance(row, Row)
    refused = item_of(row, Mapping())
    assert isinstance(refused, RefusedRow)
    assert "bytes; at most 1048576 are taken" in refused.reason


def test_cells_are_strings_unless_they_are_to_be_parsed() -> None:
    content = 'n,b,o,s\n5,true,"{""a"": 1.50}",x\n'
    assert values(read(content)[0]) == {"n": "5", "b": "true", "o": '{"a": 1.50}', "s": "x"}
    (row,) = read(content, parse_json=True)
    assert values(row) == {"n": 5, "b": True, "o": {"a": 1.5}, "s": "x"}
    assert isinstance(row, Row)
    assert row.fields["o"] == '{"a": 1.50}'


def test_json_lines_keep_numbers_and_texts_to_the_letter() -> None:
    rows = read(
        '{"input": {"n": 1.0e2,  "s": "\\u00e4"}, "id": "a"}\n\n[1]\n{"input": 1} x\n{"a": NaN}\n{"a":1,"a":2}\n',
        "jsonl",
    )
    first, *refused = rows
    assert isinstance(first, Row)
    assert first.fields["input"] == '{"n": 1.0e2,  "s": "\\u00e4"}'
    assert [(row.line, row.reason) for row in refused if isinstance(row, RefusedRow)] == [
        (3, "is not a JSON object"),
        (4, "is not JSON: more than one value at column 13"),
        (5, "is not JSON: NaN is not a JSON number"),
        (6, "has a key twice"),
    ]


def test_a_json_array_is_read_item_by_item() -> None:
    rows = read('\ufeff[{"input": 1.50}, 2, {"input": "x"}]', "json")
    assert isinstance(rows[0], Row)
    assert rows[0].fields == {"input": "1.50"}
    assert rows[1] == RefusedRow(2, "is not a JSON object")
    for broken in ("{}", "[1,", "nothing"):
        with pytest.raises(NotReadableError):
            read(broken, "json")


@settings(max_examples=50)
@given(st.lists(st.tuples(st.text(), JSON), max_size=5), st.sampled_from([None, 1]), st.booleans())
def test_members_are_slices_of_what_was_written(
    pairs: list[tuple[str, Any]], indent: int | None, ascii_only: bool
) -> None:
    named = dict(pairs)
    text = json.dumps(named, indent=indent, ensure_ascii=ascii_only)
    found = members(f" \n{text}\t")
    assert [(name, json.loads(value)) for name, value in found] == list(named.items())
    assert all(value in text for _, value in found)
    listed = members(json.dumps(list(named.values()), indent=indent, ensure_ascii=ascii_only))
    assert [json.loads(value) for _, value in listed] == list(named.values())


@pytest.mark.parametrize(
    ("name", "beginning", "expected"),
    [
        ("a.csv", b"{", "csv"), ("a.JSONL", b"", "jsonl"), ("a.ndjson", b"", "jsonl"), ("a.json", b"", "json"),
        ("-", b'\xef\xbb\xbf {"a"', "jsonl"), ("-", b"\n[", "json"), ("-", b"q,a", "csv"), ("a.txt", b"", "csv"),
    ],
)  # fmt: skip
def test_a_format_is_known_by_the_name_or_the_beginning(name: str, beginning: bytes, expected: str) -> None:
    assert format_of(name, beginning) == expected


def row_of(**fields: Any) -> Row:
    return Row(7, {name: json.dumps(value, ensure_ascii=False) for name, value in fields.items()})


def test_columns_make_up_the_item() -> None:
    row = row_of(question="when?", context="c", answer="now", topic="time", key=42, split="test, hard")
    made = item(
        row, input=[part("question"), part("background=context")], expected=[part("answer")],
        metadata=[part("topic")], item_id="key", split="split", splits=["all"], author="ada",
    )  # fmt: skip
    assert json.loads(made.input_json) == {"question": "when?", "background": "c"}
    assert made.expected_output_json == '"now"'
    assert json.loads(made.metadata_json) == {"topic": "time"}
    assert (made.item_id, list(made.splits), made.author) == ("42", ["all", "hard", "test"], "ada")


def test_one_input_column_is_an_object_unless_it_is_to_be_bare() -> None:
    row = row_of(question="when?")
    assert json.loads(item(row, input=[part("question")]).input_json) == {"question": "when?"}
    assert item(row, input=[part("question")], bare_input=True).input_json == '"when?"'


def test_without_a_mapping_columns_are_what_they_are_called() -> None:
    row = row_of(
        input={"q": 1}, expected_output=[1], metadata={"topic": "x"}, id="a", splits=["t"],
        source_trace_id="ab" * 16, source_span_id="cd" * 8,
    )  # fmt: skip
    made = item(row, metadata=[Part("id", "id")])
    assert (made.input_json, made.expected_output_json, made.item_id) == ('{"q": 1}', "[1]", "a")
    assert json.loads(made.metadata_json) == {"topic": "x", "id": "a"}
    assert (made.source_trace_id, made.source_span_id, list(made.splits)) == (b"\xab" * 16, b"\xcd" * 8, ["t"])


def test_an_item_without_an_id_gets_one_from_its_content() -> None:
    made = item(row_of(input={"b": 1, "a": 2}, expected="x"))
    assert made.item_id == item_id_of('{"a":2,"b":1}', '"x"')


def test_an_empty_cell_is_no_expected_output_but_an_empty_text_in_json_is() -> None:
    (row,) = read("input,expected_output\nq,\n")
    assert isinstance(row, Row)
    assert item(row).expected_output_json == ""
    assert item(row, expected=[part("expected_output")]).expected_output_json == ""
    assert item(row_of(input="q", expected_output="")).expected_output_json == '""'


@pytest.mark.parametrize(
    ("fields", "mapping", "reason"),
    [
        ({"other": 1}, {}, "has no input"),
        ({"a": 1}, {"input": [part("b")]}, "has no 'b'"),
        ({"input": 1, "metadata": [1]}, {}, "metadata is not a JSON object"),
        ({"input": 1, "metadata": "{"}, {}, "metadata is not a JSON object: '{'"),
        ({"input": 1, "id": {"a": 1}}, {}, "id is not a text"),
        ({"input": 1, "id": "x" * 300}, {}, "item_id"),
        ({"input": 1, "splits": 5}, {}, "splits is neither a text nor a list of texts"),
        ({"input": 1, "source_trace_id": "xyz"}, {}, "source_trace_id is not written in hex digits"),
        ({"input": 1, "source_trace_id": "abcd"}, {}, "source_trace_id"),
        ({"input": {"a": "\ud800"}}, {}, "input_json is no JSON"),
    ],
)
def test_a_row_that_makes_no_item_says_why(fields: dict[str, Any], mapping: dict[str, Any], reason: str) -> None:
    made = item_of(Row(7, {name: json.dumps(value) for name, value in fields.items()}), Mapping(**mapping))
    assert isinstance(made, RefusedRow)
    assert made.line == 7
    assert reason in made.reason


def test_columns_that_are_not_there_are_told_with_those_that_are() -> None:
    with pytest.raises(MappingError, match="there is no column 'c'; the file has: 'a', 'b'"):
        check_columns(Mapping(input=[part("c")]), ["a", "b"])
    with pytest.raises(MappingError, match="name the columns of the input"):
        check_columns(Mapping(), ["a", "b"])
    assert check_columns(Mapping(input=[part("a")]), ["a", "b"]) == ["b"]
    assert check_columns(Mapping(), ["input", "id", "topic"]) == ["topic"]


@given(st.text(alphabet="'=+-@\t\ra1,\"\n", max_size=6) | st.text())
def test_a_guard_is_taken_off_exactly(cell: str) -> None:
    assert unguarded(guarded(cell)) == cell
    assert not guarded(cell).startswith(("=", "+", "-", "@", "\t", "\r"))


@settings(max_examples=50)
@given(JSON)
def test_a_value_in_a_cell_is_parsed_back(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert json.loads(as_json(as_cell(text), parse=True)) == value


def exported(number: int, input_json: str, **fields: Any) -> DatasetItem:
    return DatasetItem(item_id=f"item-{number}", input_json=input_json, **{"metadata_json": "{}", **fields})


def back(items: list[DatasetItem], file_format: str) -> list[DatasetItemRecorded]:
    file = io.StringIO(newline="")
    (write_csv if file_format == "csv" else write_jsonl)(items, file)
    return [item(row) for row in read(file.getvalue(), file_format, parse_json=True) if isinstance(row, Row)]


def test_jsonl_comes_back_to_the_letter() -> None:
    items = [
        exported(1, '{"n": 1.0e2, "s": "\\u00e4 \u2028"}', expected_output_json='""', metadata_json='{"a": 1}'),
        exported(2, '{\n "a": [1,\r\n 2]}', splits=["x,y", "z"], source_trace_id="ab" * 16, source_span_id="cd" * 8),
        exported(3, "null"),
    ]
    made = back(items, "jsonl")
    assert [its.item_id for its in made] == ["item-1", "item-2", "item-3"]
    assert made[0].input_json == items[0].input_json
    assert (made[0].expected_output_json, made[0].metadata_json) == ('""', '{"a": 1}')
    assert json.loads(made[1].input_json) == {"a": [1, 2]}
    assert (list(made[1].splits), made[1].source_trace_id) == (["x,y", "z"], b"\xab" * 16)
    assert (made[2].expected_output_json, made[2].metadata_json) == ("", "")
    assert json_line(items[2]) == '{"id": "item-3", "input": null}'


@settings(max_examples=50)
@given(st.lists(st.tuples(JSON, JSON), min_size=1, max_size=4))
def test_csv_comes_back_with_the_same_values(pairs: list[tuple[Any, Any]]) -> None:
    items = [
        exported(n, json.dumps(value, ensure_ascii=False), expected_output_json=json.dumps(expected),
                 splits=["a,b", "c"] if n % 2 else ["c"], metadata_json='{"k": "=1"}')
        for n, (value, expected) in enumerate(pairs)
    ]  # fmt: skip
    file = io.StringIO(newline="")
    write_csv(items, file)
    rows = read(file.getvalue(), "csv", parse_json=True)
    for row, (value, expected), its in zip(rows, pairs, items, strict=True):
        assert isinstance(row, Row)
        made = item_of(row, Mapping())
        assert not isinstance(made, RefusedRow), made.reason
        assert json.loads(made.input_json) == value
        assert json.loads(made.expected_output_json) == expected
        assert list(made.splits) == sorted(its.splits)


def test_formulas_in_cells_are_harmless_and_come_back() -> None:
    file = io.StringIO(newline="")
    write_csv([exported(1, '"=HYPERLINK(1)"', expected_output_json='"-5 degrees"')], file)
    assert file.getvalue().splitlines()[1] == "item-1,'=HYPERLINK(1),'-5 degrees,,,,"
    (made,) = back([exported(1, '"=HYPERLINK(1)"', expected_output_json='"-5 degrees"')], "csv")
    assert (made.input_json, made.expected_output_json) == ('"=HYPERLINK(1)"', '"-5 degrees"')
