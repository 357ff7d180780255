"""What a report says, whatever the format: failures with reasons, losses with both sides, segments, warnings."""

import json

import pytest
from lodestream.reports import Report, as_html, as_json, as_markdown, as_text
from lodestream_evals.reports._findings import findings
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import ItemEvaluation

from sdk.tests.experiments import BASELINE, boolean, changed, compared, made_item, made_run, numeric, summed_up, worse
from sdk.tests.hostile_reports import hostile, regressed


def test_what_got_worse_has_input_both_outputs_both_reasons_and_both_traces() -> None:
    found = findings(regressed())
    (candidate,) = found.candidates
    assert [item.item_id for item in candidate.regressed] == ["item-1", "item-2"]
    first = candidate.regressed[0]
    assert first.before
    assert first.after
    assert (first.input, first.expected) == ("input 1", "expected 1")
    assert (first.before.output, first.after.output) == ("output 1", "30 days")
    assert (first.before.judgements[0].comment, first.after.judgements[0].comment) == ("as it should", "says 30 days")
    assert (first.before_trace_id, first.after_trace_id) == ("01" * 16, f"{1:032x}")
    text = as_text(regressed(), width=100)
    for said in (
        "got worse (2)",
        "item-1",
        "input 1",
        "output 1",
        "30 days",
        "as it should",
        "says 30 days",
        "01" * 16,
    ):
        assert said in text


def test_of_several_repetitions_the_one_is_shown_that_went_wrong() -> None:
    before = [made_item(1, boolean(n > 0), run_id=BASELINE, repetition=n, output=f"before {n}") for n in (0, 1)]
    after = [made_item(1, boolean(n == 0), repetition=n, output=f"after {n}") for n in (0, 1)]
    change = changed(1, pb.ITEM_CHANGE_REGRESSED, baseline_value=0.5, run_value=0.5)
    found = findings(Report(made_run(), [*before, *after], compared(worse(), items=[change])))
    (item,) = found.candidates[0].regressed
    assert item.before
    assert item.after
    assert (item.before.output, item.after.output) == ("before 1", "after 1")


def test_latency_alone_makes_no_item_worse() -> None:
    slower = changed(1, pb.ITEM_CHANGE_REGRESSED, "latency", baseline_value=1.0, run_value=2.0)
    found = findings(Report(made_run(), [], compared(worse(), items=[slower])))
    assert not found.candidates[0].regressed


def test_an_item_that_fails_now_got_worse_and_checks_come_before_numbers() -> None:
    items = [
        changed(1, pb.ITEM_CHANGE_REGRESSED, "length", baseline_value=900.0, run_value=100.0),
        changed(2, pb.ITEM_CHANGE_REGRESSED, "errors", baseline_value=0.0, run_value=1.0, run_error="timed out"),
        changed(3, pb.ITEM_CHANGE_REGRESSED),
        changed(3, pb.ITEM_CHANGE_REGRESSED, "length", baseline_value=9.0, run_value=1.0),
    ]
    run = summed_up(made_run(), [made_item(3, boolean(False), numeric(1, "length"))])
    text = as_text(Report(run, [], compared(worse(), run=run, items=items)), width=100)
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  item-")] == [
        "item-3",
        "item-2",
        "item-1",
    ]
    assert "errors false → true" in text
    assert "timed out" in text


def test_failed_items_have_their_errors_and_missed_ones_their_reasons() -> None:
    items = [
        made_item(1, error="RateLimitError: 429", attempts=5),
        made_item(2, boolean(False, comment="no days named"), output="soon"),
        made_item(3, ItemEvaluation(name="judge", error="no answer")),
        made_item(4, boolean(True)),
    ]
    found = findings(Report(summed_up(made_run(), items[3:]), items))
    assert [item.item_id for item in found.failed] == ["item-1"]
    assert [item.item_id for item in found.missed] == ["item-2", "item-3"]
    text = as_text(Report(made_run(), items), width=100)
    for said in ("RateLimitError: 429", "attempts 5", "no days named", "judge: no answer"):
        assert said in text


def test_where_it_struggled_comes_worst_first_with_failures() -> None:
    items = [made_item(n, boolean(n % 2 == 0)) for n in range(8)]
    items += [made_item(9, error="timed out"), made_item(10, boolean(True))]
    found = findings(Report(summed_up(made_run(), items), items))
    worst = found.segments[0]
    assert (worst.metric, worst.key, worst.value, worst.mean, worst.count) == ("correct", "topic", "billing", 0.0, 4)
    assert ("failed items", "billing") in {(its.metric, its.value) for its in found.segments if its.gap < 0}


def test_a_key_that_names_each_item_is_no_segment() -> None:
    items = [made_item(n, numeric(n / 40), metadata={"id": n, "all": "same"}) for n in range(40)]
    assert not findings(Report(made_run(), items)).segments


def test_means_of_shares_come_with_an_interval_over_items_not_repetitions() -> None:
    run = made_run()
    run.request.repetitions = 10
    summary = run.evaluations.add(name="correct", count=1_000, mean=0.5)
    summary.counts["true"] = summary.counts["false"] = 500
    (metric,) = findings(Report(run)).metrics
    assert metric.interval == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_what_the_figures_cannot_say_is_said() -> None:
    items = [made_item(1, boolean(True), usd=None), made_item(2, error="gone")]
    run = made_run(state=pb.EXPERIMENT_STATE_BUDGET_SPENT, reason="max_cost_usd", items_total=9, items_finished=2)
    run.items_failed = 1
    run.evaluations.add(name="judge", count=1, mean=1.0, errors=3)
    said = " ".join(findings(Report(run, items, compared(warnings=["Other dataset versions."]))).warnings)
    for part in (
        "Other dataset versions.", "budget spent (max_cost_usd): the figures are of 2 of 9 items", "1 item (50.0 %)",
        "judge (3)", "only 2 items", "Of 1 of 2 results no price is known",
    ):  # fmt: skip
        assert part in said


def test_a_run_of_nothing_is_a_report_too() -> None:
    assert "0 of 4 items" in as_text(Report(made_run(items_finished=0)))
    assert as_text(Report(pb.ExperimentRun())).startswith("a run")


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("color", [False, True])
def test_text_fits_and_nothing_in_it_acts_on_the_terminal(width: int, color: bool) -> None:
    from rich.cells import cell_len
    from rich.text import Text

    for report in (*hostile(), regressed()):
        text = as_text(report, width=width, color=color)
        assert "\u202e" not in text
        assert color or "\x1b" not in text
        assert "\x1b[2J" not in text
        for line in text.split("\n"):
            assert cell_len(Text.from_ansi(line).plain) <= width, line


def test_several_candidates_are_told_apart() -> None:
    other = made_run("d" * 32, "answer 5")
    comparison = compared(worse(), items=[changed(1, pb.ITEM_CHANGE_REGRESSED)])
    comparison.runs.append(other)
    said = comparison.metrics.add()
    said.CopyFrom(worse("tone"))
    said.run_id = other.request.run_id
    report = Report(comparison.runs[0], [], comparison)
    text = as_text(report, width=100)
    assert "compared  answer 4, answer 5" in text
    assert "answer 5 against answer 3" in text
    assert "tone of answer 5 got worse" in text
    for form in (as_html, as_markdown):
        assert "answer 5" in form(report)
    verdicts = [
        (its["name"], [each["metric"] for each in its["metrics"]]) for its in json.loads(as_json(report))["comparisons"]
    ]
    assert verdicts == [("answer 4", ["correct"]), ("answer 5", ["tone"])]
