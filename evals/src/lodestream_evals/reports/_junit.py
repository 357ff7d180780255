"""The report for a CI server that shows test results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree as ET  # it only writes

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream_evals.reports._changes import ItemChanges
from lodestream_evals.reports._facts import bounds, facts, title
from lodestream_evals.reports._findings import Findings, Report, findings
from lodestream_evals.reports._gate import Outcome
from lodestream_evals.reports._metrics import Metric
from lodestream_evals.reports._readable import inert, one_line, shortened
from lodestream_evals.reports._units import Kind, shown, signed
from lodestream_evals.reports._views import ItemView

_LONGEST = 2_000  # characters of a value
_MOST_ITEMS = 50


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    problem: str
    """"failure", "error", "skipped", or empty when it passed."""
    message: str
    details: str = ""
    seconds: float = 0.0


def as_junit(report: Report) -> str:
    """JUnit's XML: a test case for each check of the gate (or each metric), and one for each item that failed.

    It is green exactly where the gate passed: items that failed within its limit are shown as skipped.
    """
    found = findings(report)
    suites = [("metrics", list(_checks(found))), ("items", list(_items(found)))]
    root = ET.Element("testsuites", name=_clean(title(found.run)))
    for number, (name, cases) in enumerate(suites):
        if cases or not number:
            root.append(_suite(number, name, cases, found))
    for key in ("tests", "failures", "errors"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in root):.3f}")
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _checks(found: Findings) -> Iterator[_Case]:
    if found.gate:
        problems = {Outcome.PASSED: "", Outcome.FAILED: "failure", Outcome.CANNOT_JUDGE: "error"}
        for check in found.gate.checks:
            problem = problems[check.outcome]
            lost = _regressed(found, check.metric) if problem and "threshold" not in check.name else ""
            yield _Case(check.name, problem, check.reason, lost)
    elif found.candidates:
        for candidate in found.candidates:
            for its in candidate.metrics:
                yield _compared(found, its, title(candidate.run) if len(found.candidates) > 1 else "")
    else:
        yield from (_Case(its.name, "", _mean(its)) for its in found.metrics)


def _compared(found: Findings, its: pb.MetricComparison, whose: str) -> _Case:
    kind = found.kinds.get(its.metric, Kind.NUMBER)
    change = f"{signed(kind, its.difference)} {bounds(kind, its)}".strip() if its.HasField("difference") else ""
    message = ". ".join(filter(None, [its.summary.rstrip("."), change]))
    name = f"{its.metric} of {whose}" if whose else its.metric
    if its.verdict == pb.METRIC_VERDICT_WORSE:
        return _Case(name, "failure", f"it got worse: {message}", _regressed(found, its.metric))
    judged = its.verdict in {pb.METRIC_VERDICT_BETTER, pb.METRIC_VERDICT_NOT_SHOWN}
    return _Case(name, "" if judged else "skipped", message or "nothing can be said of it")


def _mean(metric: Metric) -> str:
    return f"{shown(metric.kind, metric.mean)} over {metric.count:,} values" if metric.mean is not None else ""


def _items(found: Findings) -> Iterator[_Case]:
    tolerated = found.gate is not None and found.gate.outcome is Outcome.PASSED
    for item in found.failed:
        name = f"{item.item_id} repetition {item.repetition + 1}" if item.repetition else item.item_id
        yield _Case(name, "skipped" if tolerated else "error", item.error, _details(item), item.seconds or 0.0)


def _regressed(found: Findings, metric: str) -> str:
    """The items that lost in this metric, with both sides."""
    items = [item for candidate in found.candidates for item in candidate.regressed if _lost(item, metric)]
    lines = [line for item in items[:_MOST_ITEMS] for line in _sides(item)]
    if len(items) > _MOST_ITEMS:
        lines.append(f"… and {len(items) - _MOST_ITEMS:,} more")
    return "\n".join(lines)


def _lost(item: ItemChanges, metric: str) -> bool:
    return any(its.metric == metric and its.change == pb.ITEM_CHANGE_REGRESSED for its in item.metrics)


def _sides(item: ItemChanges) -> list[str]:
    before = item.before_error or (item.before.output if item.before else "")
    after = item.after_error or (item.after.output if item.after else "")
    reasons = [f"{its.name}: {its.comment}" for its in (item.after.judgements if item.after else ()) if its.comment]
    return [
        f"{item.item_id}",
        *_labelled(("input", item.input), ("expected", item.expected), ("before", before), ("now", after)),
        *_labelled(("why", "; ".join(reasons)), ("trace", item.after_trace_id)),
        "",
    ]


def _details(item: ItemView) -> str:
    return "\n".join(_labelled(("input", item.input), ("error", item.error), ("trace", item.trace_id)))


def _labelled(*values: tuple[str, str]) -> list[str]:
    return [f"  {label}: {shortened(value, _LONGEST)}" for label, value in values if value]


def _suite(number: int, name: str, cases: Sequence[_Case], found: Findings) -> ET.Element:
    suite = ET.Element(
        "testsuite", id=str(number), name=name, package=_clean(title(found.run)), hostname="localhost",
        timestamp=_when(found.run), time=f"{sum(case.seconds for case in cases):.3f}", tests=str(len(cases)),
        failures=str(sum(case.problem == "failure" for case in cases)),
        errors=str(sum(case.problem == "error" for case in cases)),
        skipped=str(sum(case.problem == "skipped" for case in cases)),
    )  # fmt: skip
    properties = ET.SubElement(suite, "properties")
    properties_of_run = facts(found.run) + ([("baseline", title(found.baseline))] if found.baseline else [])
    for key, value in properties_of_run:
        ET.SubElement(properties, "property", name=key, value=_clean(value))
    for case in cases:
        suite.append(_case(case, f"{_clean(title(found.run))}.{name}"))
    ET.SubElement(suite, "system-out").text = _clean("\n".join([found.headline, *found.warnings])) if not number else ""
    ET.SubElement(suite, "system-err")
    return suite


def _case(case: _Case, classname: str) -> ET.Element:
    element = ET.Element(
        "testcase", name=_clean(one_line(case.name, 200)), classname=classname, time=f"{case.seconds:.3f}"
    )
    if not case.problem:
        if case.message:
            ET.SubElement(element, "system-out").text = _clean(case.message)
        return element
    problem = ET.SubElement(element, case.problem, message=_clean(one_line(case.message, 500)))
    if case.problem != "skipped":
        problem.set("type", "gate" if case.problem == "failure" else "experiment")
    problem.text = _clean("\n".join(filter(None, [case.message, case.details])))
    return element


def _when(run: pb.ExperimentRun) -> str:
    stamp = run.ended_at if run.HasField("ended_at") else run.requested_at
    return datetime.fromtimestamp(stamp.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _clean(text: str) -> str:
    """Without the characters that XML can't hold."""
    return inert(text, lines=True)
