"""Tables that turn into cards on a phone: each cell knows its column's name."""

from collections.abc import Sequence

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream_evals.reports._facts import bounds, remark
from lodestream_evals.reports._findings import Findings
from lodestream_evals.reports._gate import Check, Outcome
from lodestream_evals.reports._html.charts import forest
from lodestream_evals.reports._html.elements import Html, joined, tag
from lodestream_evals.reports._metrics import Metric
from lodestream_evals.reports._segments import Segment
from lodestream_evals.reports._units import Kind, count, probability, shown, signed

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
    head = tag("tr", *(tag("th", name, class_=_side(side)) for name, side in zip(titles, align, strict=True)))
    body = []
    for at, row in enumerate(rows):
        cells = [
            tag("td", cell, class_=_side(side), data_name=name) if cell else tag("td", class_="none")
            for name, cell, side in zip(titles, row, align, strict=True)
        ]
        body.append(tag("tr", *cells))
        if at < len(notes) and notes[at]:
            body.append(tag("tr", tag("td", notes[at], colspan=len(titles)), class_="note"))
    return tag("table", tag("caption", count(len(rows), "row")), tag("thead", head), tag("tbody", *body))


def _side(side: str) -> str | None:
    return "right" if side == "r" else None
