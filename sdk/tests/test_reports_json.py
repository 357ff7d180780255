"""The JSON report: keys that stay, numbers as numbers, null for what is not known."""

import json
import math

from lodestream.reports import Check, GateVerdict, Outcome, Report, as_json
from lodestream_proto.v1 import experiments_pb2 as pb

from sdk.tests.experiments import compared, made_item, made_run, metric, numeric
from sdk.tests.hostile_reports import HOSTILE, hostile, regressed


def test_keys_are_these() -> None:
    gate = GateVerdict((Check("correct against the baseline", "correct", Outcome.FAILED, "it got worse"),))
    report = regressed()
    document = json.loads(as_json(Report(report.run, report.items, report.comparison, gate)))
    assert list(document) == [
        "format", "headline", "warnings", "run", "baseline", "gate", "comparisons", "failed", "missed", "segments",
    ]  # fmt: skip
    assert document["format"] == "lodestream.experiment-report/1"
    assert document["gate"]["outcome"] == "failed"
    assert document["gate"]["exit_code"] == 1
    (comparison,) = document["comparisons"]
    assert comparison["metrics"][0]["verdict"] == "worse"
    assert comparison["metrics"][0]["effect_size"] is None
    first = comparison["regressed"][0]
    assert first["metrics"] == [{"metric": "correct", "change": "regressed", "baseline": 1.0, "run": 0.0}]
    assert (first["baseline"]["output"], first["run"]["output"]) == ("output 1", "30 days")
    assert first["run"]["evaluations"] == [
        {"name": "correct", "value": False, "comment": "says 30 days", "error": None}
    ]
    assert document["run"]["task"]["prompt"] == {"name": "answer", "version": 4}


def test_numbers_that_json_cannot_hold_are_null() -> None:
    items = [made_item(1, numeric(math.nan))]
    said = metric("similarity", baseline_mean=math.inf, run_mean=0.5, difference=math.nan)
    document = json.loads(as_json(Report(made_run(), items, compared(said))), parse_constant=lambda name: 1 / 0)
    assert document["comparisons"][0]["metrics"][0]["difference"] is None


def test_texts_are_whole_and_the_document_is_ascii() -> None:
    text = as_json(hostile()[0])
    assert text.isascii()
    assert json.loads(text)["missed"][0]["output"] == HOSTILE


def test_a_run_of_nothing_is_a_document_too() -> None:
    document = json.loads(as_json(Report(pb.ExperimentRun())))
    assert document["baseline"] is document["gate"] is None
    assert document["comparisons"] == document["failed"] == []
