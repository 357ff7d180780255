"""The JUnit report: parsed by anybody, shaped as CI servers expect, green exactly where the gate passed."""

from xml.etree import ElementTree as ET

import pytest
from lodestream.reports import Check, GateVerdict, Outcome, Report, as_junit
from lodestream_proto.v1 import experiments_pb2 as pb

from sdk.tests.experiments import boolean, compared, made_item, made_run, metric, summed_up, worse
from sdk.tests.hostile_reports import hostile, regressed

# What the common schema allows, in this order.
CHILDREN = {
    "testsuites": ["testsuite"],
    "testsuite": ["properties", "testcase", "system-out", "system-err"],
    "properties": ["property"],
    "testcase": ["skipped", "error", "failure", "system-out", "system-err"],
}
REQUIRED = {
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id", "package"},
    "testcase": {"name", "classname", "time"},
    "property": {"name", "value"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message"},
}


def parsed(report: Report) -> ET.Element:
    return ET.fromstring(as_junit(report))


def gated(report: Report, outcome: Outcome) -> Report:
    gate = GateVerdict((Check("correct against the baseline", "correct", outcome, "so it is"),))
    return Report(report.run, report.items, report.comparison, gate)


@pytest.mark.parametrize(
    "report", [*hostile(), regressed(), Report(pb.ExperimentRun())], ids=["one", "two", "lost", "none"]
)
def test_it_has_the_shape_of_the_schema(report: Report) -> None:
    root = parsed(report)
    for element in root.iter():
        allowed = CHILDREN.get(element.tag, [])
        order = [allowed.index(child.tag) for child in element]
        assert order == sorted(order), element.tag
        assert set(element.attrib) >= REQUIRED.get(element.tag, set()), element.tag
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == len(cases)
        for word, plural in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(suite.attrib[plural]) == sum(case.find(word) is not None for case in cases)
    for plural in ("tests", "failures", "errors"):
        assert int(root.attrib[plural]) == sum(int(suite.attrib[plural]) for suite in root)


def test_a_failed_check_names_the_items_that_lost() -> None:
    (failure,) = parsed(gated(regressed(), Outcome.FAILED)).iter("failure")
    assert failure.attrib["message"] == "so it is"
    for said in ("item-1", "input: input 1", "before: output 1", "now: 30 days", "why: correct: says 30 days"):
        assert said in (failure.text or "")


@pytest.mark.parametrize(("outcome", "red"), [(Outcome.PASSED, 0), (Outcome.FAILED, 2), (Outcome.CANNOT_JUDGE, 2)])
def test_it_is_green_exactly_where_the_gate_passed(outcome: Outcome, red: int) -> None:
    items = [made_item(1, boolean(True)), made_item(2, error="timed out")]
    root = parsed(gated(Report(summed_up(made_run(), items), items), outcome))
    assert int(root.attrib["failures"]) + int(root.attrib["errors"]) == red
    assert any("timed out" in each.attrib["message"] for each in [*root.iter("skipped"), *root.iter("error")])


def test_without_a_gate_a_metric_that_got_worse_fails() -> None:
    said = metric("tone", verdict=pb.METRIC_VERDICT_CANNOT_SAY, summary="too few items")
    root = parsed(Report(made_run(), [], compared(worse(), metric("similarity"), said)))
    cases = {case.attrib["name"]: [child.tag for child in case] for case in root.iter("testcase")}
    assert cases["correct"] == ["failure"]
    assert cases["tone"] == ["skipped"]
    assert "failure" not in cases["similarity"]
