"""What the gateway accepts of scores, prompts, datasets and runs, a row can hold and a message can show.

What reaches the log past the gateway becomes a row or a dead letter, and costs nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import astuple, fields
from typing import Any

import pytest
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.prompts_pb2 import PromptVersion
from lodestream_proto.v1.score_event_pb2 import (
    SCORE_TYPE_CATEGORICAL,
    ScoreCategory,
    ScoreConfigDefined,
    ScoreRecorded,
    ScoreRetracted,
    ScoreValue,
)

from services.projections.experiments import dataset_rows, run_rows
from services.projections.experiments.commands import command_of as experiment_command_of
from services.projections.experiments.decide import Known, decide_all
from services.projections.prompts.commands import command_of as prompt_command_of
from services.projections.prompts.decide import Prompt, decide
from services.projections.scores.fold import Folded, fold
from services.read.query.datasets import item_message
from services.read.query.scores import score_message
from services.write.gateway.datasets import kept_item
from services.write.gateway.scores import check_retraction, kept_config, kept_score
from shared.projection.records import StrayRecordError
from shared.rules.experiments import CHECKS
from shared.runtime.refusal import InvalidError
from shared.storage.score_configs import config_of
from tests.support import experiment_records, prompts
from tests.support.hostile import mutants, storable
from tests.support.scores import config, retraction, score, score_event, score_record, trace

EVENT_ID = "01890000-0000-7000-8000-000000000000"
ScorePayload = ScoreRecorded | ScoreRetracted | ScoreConfigDefined


def scored() -> list[ScorePayload]:
    """One of each kind, with every field that may be set beside the others."""
    words = score("s", comment="so", author="ada", metadata_json='{"a":1}', evaluator_version="1", environment="prod")
    words.value.CopyFrom(ScoreValue(text="well"))
    categories = [ScoreCategory(label="bad", value=-1), ScoreCategory(label="good", value=1)]
    return [
        score("s", 0.5, target=trace(1, 2)),
        score("s", "good"),
        words,
        retraction("s", reason="a mistake"),
        config("c", min_value=0, max_value=1),
        config("c", type=SCORE_TYPE_CATEGORICAL, categories=categories, description="how good"),
    ]


def kept(payload: ScorePayload) -> ScorePayload:
    """As the gateway keeps it. Raises InvalidError."""
    match payload:
        case ScoreRecorded():
            return kept_score(payload, EVENT_ID, {})
        case ScoreConfigDefined():
            return kept_config(payload, EVENT_ID)
    check_retraction(payload)
    return payload


def accepted(check: Callable[..., Any], *arguments: Any) -> Any:
    """What the gateway makes of it; None: it is refused, with a field. Nothing else may come of it."""
    try:
        return check(*arguments) or True
    except InvalidError as invalid:
        return None if invalid.field else pytest.fail(f"refused without a field: {invalid}")


GOOD = [score_record(score_event(score(f"good {n}"), number=n + 1), offset=2 * n) for n in range(2)]
ALONE = fold(GOOD)


def fold_beside(payload: ScorePayload) -> Folded:
    """The event between two good ones, which stay as they are."""
    odd = score_record(score_event(payload, number=9), offset=1)
    folded = fold([GOOD[0], odd, GOOD[1]])
    assert [row for row in folded.scores if row[0] != 1] == ALONE.scores
    for _, row in (*folded.scores, *folded.configs):
        assert storable(tuple(row))
    for _, given in folded.scores:
        score_message(given._asdict()).SerializeToString()
    for _, defined in folded.configs:
        config_of(defined._asdict()).SerializeToString()
    return folded


@pytest.mark.parametrize("payload", scored(), ids=lambda payload: payload.DESCRIPTOR.name)
def test_scores(payload: ScorePayload) -> None:
    taken = 0
    for what, mutant in mutants(payload):
        fold_beside(mutant)
        if known := accepted(kept, mutant):
            taken += 1
            assert not fold_beside(known).dead_letters, what
    assert taken > 10


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (score("s", source=99), "source: 99 is no ScoreSource"),
        (config("c", type=77), "type: 77 is no ScoreType"),
        (config("c", type=0), "type: 0 is no ScoreType"),
        (config("c", min_value=float("nan")), "min_value: nan is no number"),
        (score("s", name="a\0b"), "name: has a NUL character"),
        (score("s", config_id="a\0b"), "config_id: has a NUL character"),
    ],
)
def test_a_score_that_the_gateway_would_not_have_let_in_is_a_dead_letter(payload: ScorePayload, reason: str) -> None:
    (letter,) = fold_beside(payload).dead_letters
    assert letter.reason == reason


def test_what_people_read_of_a_score_is_cleaned_and_counted() -> None:
    folded = fold_beside(score("s", comment="a\0b", author="\0"))
    (row,) = (row for offset, row in folded.scores if offset == 1)
    assert (row.comment, row.author, folded.changes) == ("a\ufffdb", "\ufffd", {"text": 2})


def test_a_project_that_no_index_has_room_for_makes_a_record_unreadable() -> None:
    """Not even the index of the dead letters has, so that the letter would fail the batch for ever."""
    records = [score_record(score_event(score("s"), number=1, project="p" * length)) for length in (255, 256)]
    assert [record.event is None for record in records] == [False, True]
    assert [letter.project_id for letter in fold(records).dead_letters] == [""]


PROMPTS = (
    prompts.created(labels=["production"], config_json='{"a":1}', tags=["t"], commit_message="so", author="ada"),
    prompts.moved(1, "production", expected_revision=1),
    prompts.rolled_back("production"),
    prompts.archived(),
)


def payload_of(event: Event) -> Any:
    return getattr(event, str(event.WhichOneof("payload")))


def with_payload(event: Event, payload: Any) -> Event:
    changed = Event()
    changed.CopyFrom(event)
    payload_of(changed).CopyFrom(payload)
    return changed


@pytest.mark.parametrize("event", PROMPTS, ids=lambda event: event.WhichOneof("payload"))
def test_prompts(event: Event) -> None:
    taken = 0
    for what, mutant in mutants(payload_of(event)):
        (record,) = prompts.records(with_payload(event, mutant))
        try:
            command = prompt_command_of(record)
        except StrayRecordError:
            continue  # the gateway asks the same rules
        taken += 1
        decision = decide(Prompt(command.prompt_name), command.payload, record.appended_at)
        verdict = decision.verdict
        assert storable((command.prompt_name, verdict.version, verdict.revision, verdict.reason)), what
        if created := decision.created:
            assert storable(list(created.tags)), what
            assert PromptVersion.FromString(created.SerializeToString(deterministic=True)) == created
    assert taken > 5


EXPERIMENTS = (
    experiment_records.created(description="d", metadata_json='{"a":1}', input_schema_json="{}", author="ada"),
    experiment_records.item("a", metadata_json="{}", splits=["test"], expected_output_json='"!"', author="ada"),
    experiment_records.item_archived(),
    experiment_records.archived(),
    experiment_records.requested(),
    experiment_records.result(evaluations=[experiment_records.said("exact", 1.0)]),
    experiment_records.finished(reason="so", evaluations=[experiment_records.said("mean", 0.5)]),
    experiment_records.cancelled(reason="so"),
    experiment_records.paused(),
)
THERE = (experiment_records.created(), experiment_records.item("a"), experiment_records.requested())


def rows_of(events: Sequence[Event]) -> list[Any]:
    """The rows of datasets and runs that they come to."""
    decided = decide_all(Known(), [experiment_command_of(record) for record in experiment_records.records(*events)])
    datasets, runs = dataset_rows.rows_of(decided.changes), run_rows.rows_of(decided.steps)
    for row in datasets.items:
        item_message(row._asdict()).SerializeToString()
    heads = [*map(astuple, datasets.heads.values()), *map(astuple, runs.heads.values())]
    return [*heads, *(row for its in (datasets, runs) for each in fields(its) for row in getattr(its, each.name))]


@pytest.mark.parametrize("event", EXPERIMENTS, ids=lambda event: event.WhichOneof("payload"))
def test_datasets_and_runs(event: Event) -> None:
    kind, taken = str(event.WhichOneof("payload")), 0
    assert kind in CHECKS
    for what, mutant in mutants(payload_of(event)):
        if kind == "dataset_item_recorded":
            accepted(kept_item, mutant, mutant.dataset_id)
        told = with_payload(event, mutant)
        if accepted(CHECKS[kind], mutant, kind):
            taken += 1
            for row in rows_of([*THERE, told]):
                assert storable(row), what
        else:
            with pytest.raises(StrayRecordError):
                experiment_command_of(*experiment_records.records(told))
    assert taken > 5
