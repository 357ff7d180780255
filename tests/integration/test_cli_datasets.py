"""Datasets on the command line, against real services: what is imported is what is exported, and no row gets lost."""

import json
from pathlib import Path

import pytest

from tests.integration.test_cli import HOSTILE, question
from tests.support.cli import CommandLine, typing_to
from tests.support.records import any_value
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(240)

FAQ = (
    "question;answer;topic;key\r\n"
    'When can I return it?;"within 14 days";returns;a\r\n'
    '"Is ""express"" free?\r\nReally?";no;shipping;b\r\n'
    "too;many;cells;in;here\r\n"
    "=SUM(A1);-1;other;c\r\n"
)


@pytest.fixture
def client(shared_stack: Stack) -> CommandLine:
    return typing_to(shared_stack)


@pytest.fixture
def faq(tmp_path: Path) -> Path:
    """A table of four rows, of which one has too many cells."""
    path = tmp_path / "faq.csv"
    path.write_bytes(b"\xef\xbb\xbf" + FAQ.encode())
    return path


def import_words(name: str, path: Path) -> tuple[str, ...]:
    return ("import", name, str(path), "--input", "question", "--expected", "answer", "--metadata", "topic",
            "--id", "key", "--into-split", "test")  # fmt: skip


async def test_what_is_imported_is_exported_and_comes_back(client: CommandLine, faq: Path, tmp_path: Path) -> None:
    words = import_words("faq", faq)

    missing = await client.run("datasets", *words)
    assert missing.code == 1
    assert "'faq'" in missing.err
    assert "--create creates it" in missing.err

    tried = await client.run("datasets", *words, "--dry-run")
    assert tried.code == 1
    assert f"{faq}:5: has 5 cells; the header names 4" in tried.err
    assert "would store 3 items; refused 1" in tried.out
    assert "no matching datasets" in (await client.run("datasets", "list", "--contains", "faq")).out

    imported = await client.run("datasets", *words, "--create")
    assert imported.code == 1
    assert f"{faq}:5: has 5 cells; the header names 4" in imported.err
    assert imported.out == "stored 3 items in faq version 4; refused 1\n"
    again = await client.run("datasets", *words)
    assert again.out == "stored 3 items in faq version 4; refused 1\n"

    items = (await client.run("datasets", "items", "faq", "--json")).json
    assert items["version"] == 4
    assert [(its["item_id"], json.loads(its["input_json"]), json.loads(its["expected_output_json"]), its["splits"])
            for its in items["items"]] == [
        ("a", {"question": "When can I return it?"}, "within 14 days", ["test"]),
        ("b", {"question": 'Is "express" free?\r\nReally?'}, "no", ["test"]),
        ("c", {"question": "=SUM(A1)"}, "-1", ["test"]),
    ]  # fmt: skip
    assert {its["author"] for its in items["items"]} == {"ada"}

    exported = tmp_path / "faq.jsonl"
    assert (await client.run("datasets", "export", "faq", "-o", str(exported))).code == 0
    copied = await client.run("datasets", "import", "copy", str(exported), "--create", "--json")
    assert (copied.json["stored"], copied.json["refused"], copied.json["version"]) == (3, [], 4)
    back = tmp_path / "copy.jsonl"
    assert (await client.run("datasets", "export", "copy", "--output", str(back))).code == 0
    assert back.read_text() == exported.read_text()

    table = tmp_path / "faq.csv"
    wrote = await client.run("datasets", "export", "faq", "-o", str(table), "--json")
    assert wrote.json == {"dataset": "faq", "version": 4, "items": 3, "file": str(table)}
    unchanged = await client.run("datasets", "import", "faq", str(table), "--parse-json", "--json")
    assert (unchanged.json["stored"], unchanged.json["version"]) == (3, 4)


async def test_the_life_of_a_dataset(client: CommandLine, faq: Path) -> None:
    await client.run("datasets", *import_words("help", faq), "--create")
    gone = await client.run("datasets", "archive", "help", "--id", "b")
    assert gone.out == "archived b of help (version 5)\n"
    assert len((await client.run("datasets", "items", "help", "--json")).json["items"]) == 2
    assert len((await client.run("datasets", "items", "help@4", "--json")).json["items"]) == 3
    history = (await client.run("datasets", "history", "help", "--json")).json["changes"]
    assert [change["kind"] for change in history] == [
        "item_archived",
        "item_added",
        "item_added",
        "item_added",
        "created",
    ]
    assert "item archived" in (await client.run("datasets", "history", "help", "--id", "b")).out
    shown = (await client.run("datasets", "get", "help")).out
    assert "help version 5" in shown
    assert "2 items · 0 runs · splits test" in shown
    listed = await client.run("datasets", "list")
    assert "help" in listed.out
    assert (await client.run("datasets", "archive", "help")).out == "archived help (version 6)\n"
    assert "help" not in (await client.run("datasets", "list")).out
    assert (await client.run("datasets", "get", "nothing")).code == 1


async def test_what_is_exported_can_be_piped_into_an_import(client: CommandLine) -> None:
    lines = [{"id": f"i{n}", "input": {"q": n / 3, "ä": "=1"}, "expected_output": None} for n in range(3)]
    typed = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    assert (await client.run("datasets", "import", "typed", "-", "--create", stdin=typed)).code == 0
    piped = await client.run("datasets", "export", "typed")
    assert piped.out == typed
    through = await client.run("datasets", "import", "piped", "-", "--create", "--json", stdin=piped.out)
    assert (through.json["stored"], through.json["refused"]) == (3, [])
    assert (await client.run("datasets", "export", "piped", "-o", "-")).out == typed


async def test_what_the_schema_refuses_is_told_with_its_line_and_many_rows_go_in_batches(
    client: CommandLine, tmp_path: Path
) -> None:
    schema = {"type": "object", "required": ["q"], "properties": {"q": {"type": "string"}}}
    made = await client.run("datasets", "create", "strict", "-d", HOSTILE, "--input-schema", json.dumps(schema))
    assert made.out == "created strict (version 1)\n", made.err
    assert "\x1b" not in (await client.run("datasets", "get", "strict")).out
    file = tmp_path / "many.jsonl"
    rows = [{"input": {"q": f"question {n}"}, "metadata": {"n": n}} for n in range(2_500)]
    rows[7]["input"] = {"q": 7}
    rows[2_400]["input"] = {}
    rows[2_450] = {"input": {"q": "question 3"}, "metadata": {"n": "other"}}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = await client.run("datasets", "import", "strict", str(file), "--json")
    assert ran.code == 1
    told = json.loads(ran.out)
    assert told["stored"] == 2_497
    assert told["version"] == 2_498
    assert sorted((its["line"], its["reason"].split(" ")[0]) for its in told["refused"]) == [
        (8, "input_json.q"), (2_401, "input_json.q"), (2_451, "has"),
    ]  # fmt: skip
    limited = (await client.run("datasets", "items", "strict", "--all", "--json")).json
    assert len(limited["items"]) == 2_497


async def test_traces_become_items_once(client: CommandLine, shared_stack: Stack) -> None:
    positions = []
    for trace in (1, 2, 3):
        root, *others = question(trace, user=f"user-{trace}", session="s")
        root.attributes.add(key="input.value", value=any_value(json.dumps({"question": f"number {trace}"})))
        root.attributes.add(key="output.value", value=any_value(f"answer {trace}"))
        positions.append(await shared_stack.export(root, *others))
    traces = (await client.run("traces", "list", "--wait-for", ",".join(positions), "--json")).json["traces"]
    assert len(traces) == 3
    assert (await client.run("datasets", "create", "asked")).code == 0
    tried = await client.run("datasets", "add-from-traces", "asked", "--user", "user-1", "--dry-run", "--json")
    assert (len(tried.json["added"]), tried.json["version"]) == (1, None)
    added = await client.run("datasets", "add-from-traces", "asked", "--into-split", "seen", "--json")
    sources = {its["trace_id"] for its in added.json["added"]}
    assert sources <= {trace["trace_id"] for trace in traces}
    items = (await client.run("datasets", "items", "asked", "--json")).json["items"]
    assert {its["source_trace_id"] for its in items} == sources
    assert {json.loads(its["input_json"])["question"] for its in items} == {"number 1", "number 2", "number 3"}
    assert {json.loads(its["expected_output_json"]) for its in items} == {"answer 1", "answer 2", "answer 3"}
    assert all(its["source_span_id"] and its["splits"] == ["seen"] for its in items)
    again = (await client.run("datasets", "add-from-traces", "asked", "--json")).json
    assert (again["added"], again["known"]) == ([], 3)
