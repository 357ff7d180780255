"""The HTML report: one file that needs nothing else and that nothing in it can break."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest
from lodestream.reports import Report, as_html
from lodestream_evals.reports._html.charts import Scale, bins, rounded_up, spread, ticks
from lodestream_evals.reports._html.elements import Html, tag
from lodestream_proto.v1 import experiments_pb2 as pb

from sdk.tests.experiments import BASELINE, changed, compared, made_item, made_run, numeric, summed_up, worse
from sdk.tests.hostile_reports import HOSTILE, hostile, regressed


def parsed(report: Report) -> ET.Element:
    """Well-formed, or the test fails."""
    text = as_html(report)
    assert text.startswith("<!DOCTYPE html>\n")
    return ET.fromstring(text.partition("\n")[2])


def attributes(page: ET.Element) -> Iterator[tuple[str, str, str]]:
    for element in page.iter():
        for name, value in element.attrib.items():
            yield element.tag, name, value


@pytest.mark.parametrize(
    "report", [*hostile(), regressed(), Report(pb.ExperimentRun())], ids=["one", "two", "lost", "none"]
)
def test_no_page_holds_a_script_or_loads_anything(report: Report) -> None:
    page = parsed(report)
    assert not {each.tag for each in page.iter()} & {
        "script",
        "iframe",
        "img",
        "link",
        "object",
        "embed",
        "form",
        "use",
    }
    for element, name, value in attributes(page):
        assert not name.startswith("on"), (element, name)
        assert name not in {"src", "srcset"}, (element, name)
        if name == "href":
            assert value.startswith(("http://", "https://"))
        if name == "style":
            assert re.fullmatch(r"width:[\d.]+%", value)
    (style,) = page.iter("style")
    assert not re.search(r"url\(|@import|@font-face|https?:|<", style.text or "")


def test_hostile_texts_are_shown_as_they_are_written_but_for_what_acts() -> None:
    words = "".join(parsed(hostile()[1]).itertext())
    assert "</pre></style><script src=https://evil.example/x.js>alert(1)</script> | `x` ]]> @all \"'&" in words
    assert not set(words) & {"\x1b", "\x00", "\u202e", "\ufffe"}
    assert "javascript:" not in as_html(hostile()[1])


def test_losses_show_both_sides_and_traces_are_linked_where_there_is_an_address() -> None:
    report = regressed()
    page = parsed(Report(report.run, report.items, report.comparison, trace_url="https://look.example/t/{trace_id}"))
    words = " ".join(page.itertext())
    for said in ("Got worse: 2 items", "input 1", "output 1", "30 days", "as it should", "says 30 days"):
        assert said in words
    links = [value for _, name, value in attributes(page) if name == "href"]
    assert f"https://look.example/t/{'01' * 16}" in links
    assert f"https://look.example/t/{1:032x}" in links


def test_each_metric_has_its_interval_drawn_and_numbers_have_charts_with_every_item() -> None:
    before = [made_item(n, numeric(n / 60), run_id=BASELINE, seconds=1 + n / 10) for n in range(50)]
    after = [made_item(n, numeric((n + 5) / 60), seconds=2) for n in range(50)]
    run = summed_up(made_run(), after)
    changes = [changed(n, pb.ITEM_CHANGE_IMPROVED, "similarity") for n in range(50)]
    page = parsed(
        Report(run, [*after, *before], compared(worse("similarity"), worse("latency"), run=run, items=changes))
    )
    drawings = [(each.get("class"), each.get("aria-label")) for each in page.iter("svg")]
    assert drawings.count(("forest", "interval of the difference")) == 2
    assert ("chart", "distribution of 50 values") in drawings
    assert ("chart", "differences of 50 items") in drawings
    assert (
        sum(element == "circle" for element, name, value in attributes(page) if (name, value) == ("class", "better"))
        >= 50
    )


def test_ten_thousand_items_make_a_page_that_opens() -> None:
    items = [made_item(n, numeric(n % 7 / 7)) for n in range(10_000)]
    items += [made_item(n, numeric(n % 5 / 5), run_id=BASELINE) for n in range(10_000)]
    changes = [changed(n, pb.ITEM_CHANGE_REGRESSED, "similarity") for n in range(5_000)]
    text = as_html(Report(made_run(), items, compared(worse("similarity"), items=changes)))
    assert "Got worse: 5,000 items" in text
    assert "… and 4,900 more" in text
    assert len(text) < 1_000_000


def test_what_tag_did_not_make_is_escaped() -> None:
    assert tag("p", "<b>", tag("i", "&"), title='"') == '<p title="&quot;">&lt;b&gt;<i>&amp;</i></p>'
    assert isinstance(tag("br"), Html)
    assert HOSTILE not in tag("p", HOSTILE)


@pytest.mark.parametrize("low_high", [(0.0, 1.0), (0.31, 0.97), (-3.0, 12.0), (0.00011, 0.0019), (5.0, 5.0)])
def test_ticks_are_few_and_within(low_high: tuple[float, float]) -> None:
    low, high = low_high
    found = ticks(low, high)
    assert 1 <= len(found) <= 4
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)


def test_every_value_lies_in_a_bin_and_on_the_axis() -> None:
    values = [0.0, 0.1, 0.5, 1.0, 99.0]
    assert sum(bins(values, 0, 1, 4)) == 5
    assert Scale(0, 1, 10, 20).at(99) == 20
    assert spread([3.0, 3.0])[0] < 3 < spread([3.0, 3.0])[1]
    assert rounded_up(0.6715) == pytest.approx(0.68)
