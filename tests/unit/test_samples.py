"""The events that projections try themselves on are such as must always fold."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.projections.experiments.commands import command_of as experiment_command_of
from services.projections.experiments.experiments import ExperimentsProjection
from services.projections.prompts.commands import command_of as prompt_command_of
from services.projections.prompts.prompts import PromptsProjection
from services.projections.scores.fold import fold as fold_scores
from services.projections.scores.scores import ScoresProjection
from services.projections.traces.batch import fold_records
from services.projections.traces.projection import TracesProjection
from services.write.evaluator.fold import RunsFold
from services.write.evaluator.fold import fold as fold_runs
from shared.event_log.codec import LogRecord, read


def record(projection: Any) -> LogRecord:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    return read(projection.topic, 0, 0, now_ms, projection.sample().SerializeToString())


def test_the_traces_projection_folds_its_sample() -> None:
    projected = fold_records([record(TracesProjection(None))])  # type: ignore[arg-type]
    assert (len(projected.spans), projected.dead_letters) == (1, [])


def test_the_scores_projection_folds_its_sample() -> None:
    folded = fold_scores([record(ScoresProjection())])
    assert (len(folded.scores), folded.dead_letters) == (1, [])


def test_workers_fold_their_sample() -> None:
    assert len(fold_runs([record(RunsFold())]).state_changes) == 1


@pytest.mark.parametrize(
    ("projection", "command_of"),
    [(PromptsProjection(), prompt_command_of), (ExperimentsProjection(), experiment_command_of)],
    ids=["prompts", "experiments"],
)
def test_a_projection_of_commands_takes_its_sample(projection: Any, command_of: Any) -> None:
    assert command_of(record(projection)).payload
