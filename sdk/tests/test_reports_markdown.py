"""The Markdown report: tables that hold, folds that close, and nobody called by what a model wrote."""

import re

import pytest
from lodestream.reports import Report, as_markdown
from lodestream_proto.v1 import experiments_pb2 as pb

from sdk.tests.experiments import boolean, changed, compared, made_item, made_run, numeric, summed_up, worse
from sdk.tests.hostile_reports import hostile, regressed


def without_code(text: str) -> str:
    """The text without what stands in fences and spans, where no markup counts."""
    text = re.sub(r"^(`{3,})text\n.*?\n\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"(?<!`)(`+)(?!`) .*? \1(?!`)", "", text)


@pytest.mark.parametrize("report", [*hostile(), regressed()], ids=["one", "two", "lost"])
def test_every_row_of_a_table_has_the_cells_of_its_head(report: Report) -> None:
    tables = re.findall(r"(?:^\|.*\|\n)+", as_markdown(report), flags=re.MULTILINE)
    assert tables
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(widths) == 1, table


@pytest.mark.parametrize("report", hostile(), ids=["one", "two"])
def test_hostile_texts_make_no_markup(report: Report) -> None:
    text = as_markdown(report)
    assert not set(text) & {"\x1b", "\x00", "\u202e", "\ufffe"}
    bare = without_code(text)
    assert not re.search(r"@\w", bare)
    assert not re.search(r"https?:/", bare)
    assert set(re.findall(r"<(/?\w+)", bare)) <= {"details", "/details", "summary", "/summary"}
    assert bare.count("<details>") == bare.count("</details>")


def test_what_came_out_is_said_before_anything_else() -> None:
    lines = as_markdown(regressed()).splitlines()
    assert lines[0] == "### answer 4"
    assert lines[2] == "**correct got worse (-7.0 pp).**"
    row = next(line for line in lines if line.startswith("| correct |"))
    assert "| 82.0 % | 75.0 % | -7.0 pp | [-12.0, -2.0] pp | **worse** | 0.008 | 1 / 7 / 40 |" in row


def test_what_got_worse_is_folded_with_both_sides() -> None:
    folded = as_markdown(regressed()).partition("<details><summary>2 items got worse</summary>")[2]
    for said in (
        "` input 1 `",
        "` output 1 `",
        "` 30 days `",
        "` as it should `",
        "` says 30 days `",
        f"`{'01' * 16}`",
    ):
        assert said in folded.partition("</details>")[0]


def test_a_fence_in_an_output_ends_nothing() -> None:
    output = "```\n# heading\n````\n<b>x</b>\n" * 3
    items = [made_item(1, boolean(False), output=output)]
    text = as_markdown(Report(summed_up(made_run(), items), items))
    assert "# heading" not in without_code(text)
    assert "<b>" not in without_code(text)


def test_it_fits_into_a_comment() -> None:
    items = [made_item(n, boolean(False, comment="x" * 5_000), output="y" * 5_000) for n in range(200)]
    items += [made_item(n, error="z" * 9_000) for n in range(200, 300)]
    changes = [changed(n, pb.ITEM_CHANGE_REGRESSED) for n in range(200)]
    for report in (Report(made_run(), items), Report(made_run(), items, compared(worse(), items=changes))):
        text = as_markdown(report)
        assert len(text) < 65_536
        assert re.search(r"… and \d+ more\.", text)


def test_a_single_run_shows_means_with_intervals_and_where_it_struggled() -> None:
    items = [made_item(n, boolean(n % 2 == 0), numeric(0.5)) for n in range(40)]
    text = as_markdown(Report(summed_up(made_run(), items), items))
    assert "| correct | 50.0 % | 35.2 % to 64.8 % | 40 |  |" in text
    assert "| similarity | 0.5 |  | 40 |  |" in text
    assert "| topic = billing | correct | 0.0 % | 50.0 % | 20 |" in text
