"""The page: what came out, how sure that is, what changed and why."""

from collections.abc import Iterator, Sequence
from importlib.resources import files

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream_evals.reports._changes import ItemChanges, MetricChange
from lodestream_evals.reports._facts import bounds, facts, progress, remark, title
from lodestream_evals.reports._findings import STATES, Candidate, Findings, Report, findings
from lodestream_evals.reports._gate import Check, Outcome
from lodestream_evals.reports._html.charts import charts_of, forest, own_charts
from lodestream_evals.reports._html.elements import Html, joined, tag
from lodestream_evals.reports._metrics import Metric
from lodestream_evals.reports._readable import one_line, shortened
from lodestream_evals.reports._segments import Segment
from lodestream_evals.reports._units import Kind, count, probability, shown, signed
from lodestream_evals.reports._views import ItemView, Judgement

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
        listed = tag("ul", *(tag("li", line) for line in found.warnings))
        yield tag("section", tag("h2", "What the figures can't say"), listed, class_="warnings")
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
            tag("li", tag("b", its.name), " ", its.error or its.words, _muted(its.comment))
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
    run_facts = facts(run)
    if found.baseline:
        run_facts.insert(0, ("baseline", title(found.baseline)))
    if len(found.candidates) > 1:
        run_facts.insert(1, ("compared", ", ".join(title(each.run) for each in found.candidates)))
    listed = joined(*(tag("div", tag("dt", name), tag("dd", value)) for name, value in run_facts))
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


# --- Tables -----------------------------------------------------------------------------------------------------------

_OUTCOMES = {Outcome.PASSED: "better", Outcome.FAILED: "worse", Outcome.CANNOT_JUDGE: "open"}
_VERDICTS = {
    pb.METRIC_VERDICT_BETTER: ("better", "better"),
    pb.METRIC_VERDICT_WORSE: ("worse", "worse"),
    pb.METRIC_VERDICT_NOT_SHOWN: ("not shown", "same"),
}
_CANNOT_SAY = ("can't say", "open")


def check_table(checks: Sequence[Check]) -> Html:
    """A row a check of the gate."""
    rows = [
        [tag("span", its.outcome.value, class_=f"badge {_OUTCOMES[its.outcome]}"), tag("b", its.name), its.reason]
        for its in checks
    ]
    return _table(["", "check", "why"], rows, "   ")


def metric_table(metrics: Sequence[Metric]) -> Html:
    """A row a metric of one run."""
    rows: list[list[str | Html]] = []
    for its in metrics:
        mean = shown(its.kind, its.mean) if its.mean is not None else ""
        if not mean:
            most = sorted(its.counts.items(), key=lambda pair: (-pair[1], pair[0]))[:5]
            mean = ", ".join(f"{name} {times:,}" for name, times in most)
        interval = " to ".join(f"{100 * each:.1f} %" for each in its.interval) if its.interval else ""
        errors = tag("span", f"{its.errors:,}", class_="worse") if its.errors else ""
        rows.append([tag("b", its.name), mean, interval, f"{its.count:,}", errors])
    return _table(["metric", "mean", "95 % interval", "values", "evaluator errors"], rows, " r rr")


def comparison_table(metrics: Sequence[pb.MetricComparison], found: Findings) -> Html:
    """A row a metric: both means, the difference with its interval drawn, the verdict. Shares are on one scale."""
    shares = [_reach(its) for its in metrics if found.kinds.get(its.metric) is Kind.SHARE]
    rows = [_compared(its, found.kinds.get(its.metric, Kind.NUMBER), max(shares, default=0.0)) for its in metrics]
    notes = [remark(found.kinds.get(its.metric, Kind.NUMBER), its) for its in metrics]
    titles = ["metric", "baseline", "run", "change", "less · 0 · more", found.interval, "verdict", "p", "items"]
    return _table(titles, rows, " rrr   rr", notes)


def segment_table(segments: Sequence[Segment], against: str) -> Html:
    """A row a segment."""
    rows: list[list[str | Html]] = [
        [tag("b", f"{its.key} = {its.value}"), its.metric, shown(its.kind, its.mean),
         shown(its.kind, its.against) if its.against is not None else "",
         tag("span", signed(its.kind, its.mean - its.against), class_="worse") if its.against is not None else "",
         f"{its.count:,}"]
        for its in segments
    ]  # fmt: skip
    return _table(["segment", "metric", "mean", against, "change", "items"], rows, "  rrrr")


def _compared(its: pb.MetricComparison, kind: Kind, widest_share: float) -> list[str | Html]:
    word, colour = _VERDICTS.get(its.verdict, _CANNOT_SAY)
    known = its.HasField("difference") and its.HasField("interval_low") and its.HasField("interval_high")
    reach = widest_share if kind is Kind.SHARE else _reach(its)
    drawn = (
        forest(its.interval_low, its.difference, its.interval_high, reach=reach or 1.0, colour=colour) if known else ""
    )
    p = its.p_adjusted if its.HasField("p_adjusted") else its.p_value
    known_p = its.HasField("p_adjusted") or its.HasField("p_value")
    test = f"{its.test}{', by Holm' if its.HasField('p_adjusted') else ''}"
    return [
        tag("b", its.metric),
        shown(kind, its.baseline_mean) if its.HasField("baseline_mean") else "",
        shown(kind, its.run_mean) if its.HasField("run_mean") else "",
        tag("span", signed(kind, its.difference), class_=colour) if its.HasField("difference") else "",
        drawn,
        bounds(kind, its),
        tag("span", word, class_=f"badge {colour}"),
        tag("span", probability(p), title=test) if known_p else "",
        _pairs(its),
    ]


def _pairs(its: pb.MetricComparison) -> Html:
    moved = f"+{its.improved:,} / -{its.regressed:,}" if its.improved or its.regressed else ""
    return joined(f"{its.pairs:,}", tag("small", moved, class_="muted remark") if moved else None)


def _reach(its: pb.MetricComparison) -> float:
    return max(abs(its.interval_low), abs(its.interval_high), abs(its.difference))


def _table(titles: Sequence[str], rows: Sequence[Sequence[str | Html]], align: str, notes: Sequence[str] = ()) -> Html:
    """Notes are sentences below their rows."""
    head = tag("tr", *(tag("th", name, class_=_alignment(side)) for name, side in zip(titles, align, strict=True)))
    body = []
    for at, row in enumerate(rows):
        cells = [
            tag("td", cell, class_=_alignment(side), data_name=name) if cell else tag("td", class_="none")
            for name, cell, side in zip(titles, row, align, strict=True)
        ]
        body.append(tag("tr", *cells))
        if at < len(notes) and notes[at]:
            body.append(tag("tr", tag("td", notes[at], colspan=len(titles)), class_="note"))
    return tag("table", tag("caption", count(len(rows), "row")), tag("thead", head), tag("tbody", *body))


def _alignment(side: str) -> str | None:
    return "right" if side == "r" else None


# --- Items ------------------------------------------------------------------------------------------------------------

_MOST = 100
_OPEN = 3
_LONGEST = 4_000  # characters of a value


def changed_cards(items: Sequence[ItemChanges], found: Findings) -> Html:
    """Input, then both outputs side by side with their reasons and traces."""
    return _cards([_changed(item, found, at) for at, item in enumerate(items[:_MOST])], len(items))


def failed_cards(items: Sequence[ItemView], found: Findings) -> Html:
    """Input and error."""
    cards = []
    for at, item in enumerate(items[:_MOST]):
        tried = tag("p", f"after {item.attempts:,} attempts", class_="muted") if item.attempts > 1 else None
        body = [_value("input", item.input), _value("expected", item.expected), _value("error", item.error, "worse")]
        summary = tag("span", one_line(item.error, 100), class_="muted")
        cards.append(_card(item.item_id, summary, at, *body, tried, _trace(item.trace_id, found)))
    return _cards(cards, len(items))


def missed_cards(items: Sequence[ItemView], found: Findings) -> Html:
    """Input, output, and the checks that were not passed."""
    cards = []
    for at, item in enumerate(items[:_MOST]):
        chips = joined(*(tag("span", its.name, class_="chip worse") for its in item.missed))
        body = [_value("input", item.input), _value("expected", item.expected), _value("output", item.output)]
        cards.append(_card(item.item_id, chips, at, *body, _reasons(item.missed), _trace(item.trace_id, found)))
    return _cards(cards, len(items))


def _changed(item: ItemChanges, found: Findings, at: int) -> Html:
    chips = joined(*(_chip(its, found) for its in item.metrics))
    names = [its.metric for its in item.metrics]
    before = _side("baseline", item.before, item.before_error, names)
    after = _side("run", item.after, item.after_error, names)
    sides = tag(
        "div",
        tag("div", before, _trace(item.before_trace_id, found)),
        tag("div", after, _trace(item.after_trace_id, found)),
        class_="sides",
    )
    return _card(item.item_id, chips, at, _value("input", item.input), _value("expected", item.expected), sides)


def _chip(its: MetricChange, found: Findings) -> Html:
    colour = {pb.ITEM_CHANGE_REGRESSED: "worse", pb.ITEM_CHANGE_IMPROVED: "better"}.get(its.change, "same")
    kind = found.kinds.get(its.metric, Kind.NUMBER)
    before, after = (
        _number(kind, *side) for side in ((its.before, its.before_category), (its.after, its.after_category))
    )
    return tag("span", f"{its.metric} {before} → {after}", class_=f"chip {colour}")


def _number(kind: Kind, value: float | None, category: str) -> str:
    if value is None:
        return category or "none"
    if kind is Kind.SHARE and value in {0.0, 1.0}:
        return "true" if value else "false"
    return shown(kind, value)


def _side(name: str, item: ItemView | None, error: str, metrics: Sequence[str]) -> Html:
    shown_judgements = [its for metric in metrics if item and (its := item.judgement(metric))]
    output = _value(f"{name}: error", error, "worse") if error else _value(name, item.output if item else "")
    return joined(output or tag("p", f"{name}: not in this report", class_="muted"), _reasons(shown_judgements))


def _reasons(judgements: Sequence[Judgement]) -> Html | None:
    lines = [
        tag(
            "li",
            tag("b", its.name),
            f" {its.words}",
            tag("span", f": {shortened(reason, _LONGEST)}") if reason else None,
        )
        for its in judgements
        if (reason := its.error or its.comment) or its.missed
    ]
    return tag("ul", *lines, class_="reasons") if lines else None


def _trace(trace_id: str, found: Findings) -> Html | None:
    if not trace_id:
        return None
    if not found.trace_url:
        return tag("p", "trace ", tag("code", trace_id), class_="trace muted")
    address = found.trace_url.replace("{trace_id}", trace_id)
    return tag("p", tag("a", f"trace {trace_id}", href=address, rel="noreferrer"), class_="trace")


def _value(label: str, text: str, colour: str = "") -> Html | None:
    if not text:
        return None
    return tag("div", tag("h4", label), tag("pre", shortened(text, _LONGEST), class_=colour or None))


def _card(item_id: str, summary: Html, at: int, *content: Html | None) -> Html:
    opened = {"open": "open"} if at < _OPEN else {}
    return tag("details", tag("summary", tag("b", one_line(item_id, 80)), " ", summary), *content, **opened)


def _cards(cards: Sequence[Html], number: int) -> Html:
    more = tag("p", f"… and {number - len(cards):,} more", class_="muted") if number > len(cards) else None
    return joined(*cards, more)
