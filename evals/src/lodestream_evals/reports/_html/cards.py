"""Items with what went in, what came out and why it was judged so; folded, as there may be many."""

from collections.abc import Sequence

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream_evals.reports._changes import ItemChanges, MetricChange
from lodestream_evals.reports._findings import Findings
from lodestream_evals.reports._html.elements import Html, joined, tag
from lodestream_evals.reports._readable import one_line, shortened
from lodestream_evals.reports._units import Kind, shown
from lodestream_evals.reports._views import ItemView, Judgement

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
    told = [its for metric in metrics if item and (its := item.judgement(metric))]
    output = _value(f"{name}: error", error, "worse") if error else _value(name, item.output if item else "")
    return joined(output or tag("p", f"{name}: not in this report", class_="muted"), _reasons(told))


def _reasons(judgements: Sequence[Judgement]) -> Html | None:
    lines = [
        tag(
            "li",
            tag("b", its.name),
            f" {its.said}",
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
