"""The report for a comment on a pull request: what came out first, then tables, then folded details."""

import re
from collections.abc import Iterator, Sequence

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream_evals.reports._changes import ItemChanges
from lodestream_evals.reports._facts import bounds, facts, progress, remark, title
from lodestream_evals.reports._findings import STATES, Candidate, Findings, Report, findings
from lodestream_evals.reports._gate import Outcome
from lodestream_evals.reports._readable import inert, one_line, shortened
from lodestream_evals.reports._segments import Segment
from lodestream_evals.reports._units import Kind, count, probability, shown, signed
from lodestream_evals.reports._views import ItemView, Judgement

_MOST_ITEMS = 20
_MOST_SEGMENTS = 10
_LONGEST = 1_500  # characters of a value
_SHORT = 300  # of one that needs no block of its own
_ROOM = 30_000  # characters of all items: a comment holds 65,536

_VERDICTS = {
    pb.METRIC_VERDICT_BETTER: "**better**",
    pb.METRIC_VERDICT_WORSE: "**worse**",
    pb.METRIC_VERDICT_NOT_SHOWN: "no difference shown",
}
_OUTCOMES = {Outcome.PASSED: "passed", Outcome.FAILED: "**failed**", Outcome.CANNOT_JUDGE: "**can't judge**"}
_MARKUP = re.compile(r"([\\`*_\[\]|~$])")
_LINKED = re.compile(r"([@#]|\bwww\b|\bhttps?:)", re.IGNORECASE)


def as_markdown(report: Report) -> str:
    """GitHub's Markdown, of less than 65,536 characters. What models say stands in fences, and can't call anybody."""
    return "\n".join(_lines(findings(report))).rstrip("\n") + "\n"


def _lines(found: Findings) -> Iterator[str]:
    run = found.run
    yield from (f"### {_cell(title(run))}", "", f"**{_cell(found.headline, 600)}**", "")
    beside = f" beside the baseline {_cell(title(found.baseline))}" if found.baseline else ""
    several = ", ".join(title(each.run) for each in found.candidates) if len(found.candidates) > 1 else ""
    compared = f"; compared: {_cell(several, 600)}" if several else ""
    yield from (f"{STATES.get(run.state, 'not begun')}: {progress(run)}{beside}{compared}", "")
    if found.gate:
        rows = [[_OUTCOMES[its.outcome], _cell(its.name), _cell(its.reason, 400)] for its in found.gate.checks]
        yield from _table(["", "check", "why"], rows, "lll")
    for candidate in found.candidates:
        yield from _comparison(found, candidate)
    if not found.candidates:
        yield from _metrics(found)
    if found.warnings:
        yield from ("> **What the figures can't say**", ">")
        yield from (f"> - {_cell(line, 600)}" for line in found.warnings)
        yield ""
    yield from _details(found)


def _comparison(found: Findings, candidate: Candidate) -> Iterator[str]:
    if len(found.candidates) > 1:
        yield from (f"#### {_cell(title(candidate.run))}", "")
    rows = [_compared(its, found.kinds.get(its.metric, Kind.NUMBER)) for its in candidate.metrics]
    titles = ["metric", "baseline", "run", "change", found.interval, "verdict", "p", "better / worse / pairs"]
    yield from _table(titles, rows, "lrrrllrr")


def _compared(its: pb.MetricComparison, kind: Kind) -> list[str]:
    p = its.p_adjusted if its.HasField("p_adjusted") else its.p_value
    known_p = its.HasField("p_adjusted") or its.HasField("p_value")
    return [
        _cell(its.metric),
        shown(kind, its.baseline_mean) if its.HasField("baseline_mean") else "",
        shown(kind, its.run_mean) if its.HasField("run_mean") else "",
        signed(kind, its.difference) if its.HasField("difference") else "",
        bounds(kind, its),
        _VERDICTS.get(its.verdict, "can't say"),
        _cell(probability(p)) if known_p else "",
        f"{its.improved:,} / {its.regressed:,} / {its.pairs:,}",
    ]


def _metrics(found: Findings) -> Iterator[str]:
    rows = []
    for its in (*found.metrics, *found.costs):
        most = sorted(its.counts.items(), key=lambda pair: (-pair[1], pair[0]))[:5]
        mean = (
            shown(its.kind, its.mean)
            if its.mean is not None
            else ", ".join(f"{name} {times:,}" for name, times in most)
        )
        interval = " to ".join(f"{100 * each:.1f} %" for each in its.interval) if its.interval else ""
        rows.append([_cell(its.name), _cell(mean), interval, f"{its.count:,}", f"{its.errors:,}" if its.errors else ""])
    if rows:
        yield from _table(["metric", "mean", "95 % interval", "values", "errors"], rows, "lrlrr")
    if found.run_judgements:
        rows = [[_cell(its.name), _cell(its.error or its.words), _cell(its.comment)] for its in found.run_judgements]
        yield from _table(["of the run as a whole", "", ""], rows, "lll")


def _details(found: Findings) -> Iterator[str]:
    room = _ROOM
    for candidate in found.candidates:
        whose = f" in {_cell(title(candidate.run))}" if len(found.candidates) > 1 else ""
        blocks = [_changed(item, found) for item in candidate.regressed[:_MOST_ITEMS]]
        lines, room = _within(blocks, len(candidate.regressed), room)
        yield from _folded(f"{count(len(candidate.regressed), 'item')} got worse{whose}", lines)
        lost = [segment for segment in candidate.segments if segment.gap < 0]
        yield from _folded(f"Where it lost{whose}", _segments(lost, "baseline"))
        remarks = [remark(found.kinds.get(its.metric, Kind.NUMBER), its) for its in candidate.metrics]
        remarks = [f"- {_cell(words, 1_000)}" for words in remarks if words]
        yield from _folded(f"What each comparison can show{whose}", remarks)
    lines, room = _within([_failed(item, found) for item in found.failed[:_MOST_ITEMS]], len(found.failed), room)
    yield from _folded(f"{count(len(found.failed), 'item')} ended with an error", lines)
    if not found.candidates:
        blocks = [_missed(item, found) for item in found.missed[:_MOST_ITEMS]]
        lines, room = _within(blocks, len(found.missed), room)
        yield from _folded(f"{count(len(found.missed), 'item')} did not pass a check", lines)
        struggled = [segment for segment in found.segments if segment.gap < 0]
        yield from _folded("Where it struggled", _segments(struggled, "all items"))
    yield from _folded("The run", [f"- {name}: {_cell(value, 400)}" for name, value in facts(found.run)])


def _within(blocks: Sequence[list[str]], number: int, room: int) -> tuple[list[str], int]:
    """As many blocks as there is room for, what is left out in words, and the room that is left."""
    lines: list[str] = []
    kept = 0
    for block in blocks:
        size = sum(len(line) + 1 for line in block)
        if size > room:
            break
        lines += block
        kept, room = kept + 1, room - size
    if number > kept:
        lines += [f"… and {number - kept:,} more.", ""]
    return lines, room


def _changed(item: ItemChanges, found: Findings) -> list[str]:
    names = [its.metric for its in item.metrics if its.change == pb.ITEM_CHANGE_REGRESSED]
    lines = [f"**{_cell(item.item_id)}**: {', '.join(map(_cell, names))}", "", *_fenced("input", item.input)]
    lines += _fenced("expected", item.expected)
    for label, side, error, trace in (
        ("before", item.before, item.before_error, item.before_trace_id),
        ("now", item.after, item.after_error, item.after_trace_id),
    ):
        lines += _fenced(f"{label}, error" if error else label, error or (side.output if side else ""))
        if side:
            lines += _reasons([its for name in names if (its := side.judgement(name))])
        lines += _trace(trace, found)
    return [*lines, "", "---", ""]


def _failed(item: ItemView, found: Findings) -> list[str]:
    lines = [f"**{_cell(item.item_id)}**", "", *_fenced("input", item.input), *_fenced("error", item.error)]
    return [*lines, *_trace(item.trace_id, found), "", "---", ""]


def _missed(item: ItemView, found: Findings) -> list[str]:
    names = ", ".join(_cell(its.name) for its in item.missed)
    lines = [f"**{_cell(item.item_id)}**: {names}", "", *_fenced("input", item.input)]
    lines += [*_fenced("expected", item.expected), *_fenced("output", item.output), *_reasons(item.missed)]
    return [*lines, *_trace(item.trace_id, found), "", "---", ""]


def _reasons(judgements: Sequence[Judgement]) -> list[str]:
    return [line for its in judgements for line in _fenced(f"why {one_line(its.name, 60)}", its.error or its.comment)]


def _trace(trace_id: str, found: Findings) -> list[str]:
    if not trace_id:
        return []
    if found.trace_url:
        return [f"- [trace {trace_id}]({found.trace_url.replace('{trace_id}', trace_id)})"]
    return [f"- trace `{trace_id}`"]


def _segments(segments: Sequence[Segment], against: str) -> list[str]:
    rows = [
        [_cell(f"{its.key} = {its.value}"), _cell(its.metric), shown(its.kind, its.mean),
         shown(its.kind, its.against) if its.against is not None else "", f"{its.count:,}"]
        for its in segments[:_MOST_SEGMENTS]
    ]  # fmt: skip
    return list(_table(["segment", "metric", "mean", against, "items"], rows, "llrrr")) if rows else []


def _folded(summary: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield from (f"<details><summary>{summary}</summary>", "", *lines, "", "</details>", "")


def _fenced(label: str, text: str) -> list[str]:
    """A block of text that nothing in the text can end."""
    if not text:
        return []
    if len(text) <= _SHORT and "\n" not in text:
        return [f"- {_cell(label)}: {_span(text)}"]
    body = inert(shortened(text.replace("\r\n", "\n"), _LONGEST), lines=True)
    fence = "`" * max(3, _longest_run(body) + 1)
    return [f"- {_cell(label)}:", "", f"{fence}text", body, fence, ""]


def _span(text: str) -> str:
    """A short text as code, which nothing in it can end."""
    mark = "`" * (_longest_run(text) + 1)
    return f"{mark} {one_line(text, _SHORT)} {mark}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield "|" + "|".join("---:" if each == "r" else "---" for each in align) + "|"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _cell(text: str, most: int = 120) -> str:
    """The text in one line, with no markup in it, no links and nobody called."""
    flat = one_line(text, most).replace("&", "&amp;").replace("<", "&lt;")
    return _LINKED.sub("\\1\u200b", _MARKUP.sub(r"\\\1", flat))
