"""The page: what came out, how sure that is, what changed and why."""

from collections.abc import Iterator
from importlib.resources import files

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream_evals.reports._facts import facts, progress, title
from lodestream_evals.reports._findings import STATES, Candidate, Findings, findings
from lodestream_evals.reports._html.cards import changed_cards, failed_cards, missed_cards
from lodestream_evals.reports._html.elements import Html, joined, tag
from lodestream_evals.reports._html.figures import charts_of, own_charts
from lodestream_evals.reports._html.tables import check_table, comparison_table, metric_table, segment_table
from lodestream_evals.reports._report import Report
from lodestream_evals.reports._units import count

_MOST_SEGMENTS = 12
# Nothing is loaded and nothing runs, whatever an output holds.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def as_html(report: Report) -> str:
    """One file for a browser, light or dark as that is, readable on a phone."""
    found = findings(report)
    style = files("lodestream_evals.reports").joinpath("_html/style.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title(found.run)}: experiment"),
        tag("style", Html(style)),
    )
    body = tag("body", tag("main", *_parts(found)))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _parts(found: Findings) -> Iterator[Html]:
    yield _head(found)
    if found.warnings:
        said = tag("ul", *(tag("li", line) for line in found.warnings))
        yield tag("section", tag("h2", "What the figures can't say"), said, class_="warnings")
    if found.gate:
        yield _section("Gate", check_table(found.gate.checks))
    for candidate in found.candidates:
        yield from _comparison(found, candidate)
    if not found.candidates:
        if found.metrics or found.costs:
            yield _section("Metrics", metric_table([*found.metrics, *found.costs]))
        yield _section("Distributions", own_charts(found))
    if found.run_judgements:
        rows = [
            tag("li", tag("b", its.name), " ", its.error or its.said, _muted(its.comment))
            for its in found.run_judgements
        ]
        yield _section("The run as a whole", tag("ul", *rows))
    if found.failed:
        yield _section(f"Failed: {count(len(found.failed), 'item')}", failed_cards(found.failed, found))
    if not found.candidates:
        if found.missed:
            heading = f"Checks not passed: {count(len(found.missed), 'item')}"
            yield _section(heading, missed_cards(found.missed, found))
        worse = [segment for segment in found.segments if segment.gap < 0][:_MOST_SEGMENTS]
        if worse:
            yield _section("Where it struggled", segment_table(worse, "all items"))


def _head(found: Findings) -> Html:
    run = found.run
    colour = {pb.EXPERIMENT_STATE_COMPLETED: "better", pb.EXPERIMENT_STATE_FAILED: "worse"}.get(run.state, "open")
    told = facts(run)
    if found.baseline:
        told.insert(0, ("baseline", title(found.baseline)))
    if len(found.candidates) > 1:
        told.insert(1, ("compared", ", ".join(title(each.run) for each in found.candidates)))
    listed = joined(*(tag("div", tag("dt", name), tag("dd", value)) for name, value in told))
    return tag(
        "header",
        tag("h1", title(run)),
        tag("p", tag("span", STATES.get(run.state, "not begun"), class_=f"badge {colour}"), " ", progress(run)),
        tag("p", found.headline, class_="headline"),
        tag("dl", listed),
    )


def _comparison(found: Findings, candidate: Candidate) -> Iterator[Html]:
    whose = f" of {title(candidate.run)}" if len(found.candidates) > 1 else ""
    legend = tag(
        "p", tag("span", class_="key before"), title(found.baseline) if found.baseline else "", " (baseline)  ",
        tag("span", class_="key run"), title(candidate.run), class_="legend",
    )  # fmt: skip
    yield _section(f"Against the baseline{whose}", legend, comparison_table(candidate.metrics, found))
    yield _section(f"Quality, latency and cost{whose}", charts_of(found, candidate))
    if candidate.regressed:
        heading = f"Got worse{whose}: {count(len(candidate.regressed), 'item')}"
        yield _section(heading, changed_cards(candidate.regressed, found))
    if candidate.improved:
        heading = f"Got better{whose}: {count(len(candidate.improved), 'item')}"
        yield _section(heading, changed_cards(candidate.improved, found))
    worse = [segment for segment in candidate.segments if segment.gap < 0][:_MOST_SEGMENTS]
    if worse:
        yield _section(f"Where it lost{whose}", segment_table(worse, "baseline"))


def _section(heading: str, *content: Html) -> Html:
    return tag("section", tag("h2", heading), *content)


def _muted(text: str) -> Html | None:
    return tag("span", f" {text}", class_="muted") if text else None
