"""What of an event about datasets and runs can't be taken, whatever their history is. Pure; of datasets see there.

| what | at most |
|---|---|
| the id of a run, of an item, of a score | 255 bytes |
| a run's name, an author | 255 characters |
| what a run is asked for with | 1 MiB |
| repetitions; calls in flight | 100; 1,000 |
| what came of an item, with its evaluations | 1.9 MiB |
| evaluations of an item, or of a run | 300, each name once |
| an evaluation's name, category; its text, comment or error | 200; 16,384 characters |
| an evaluation's metadata, or a run's | 64 KiB |
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.experiment_event_pb2 import (
    ExperimentCancelled,
    ExperimentFinished,
    ExperimentItemFinished,
    ExperimentOutcome,
    ExperimentPaused,
    ExperimentRequested,
    ExperimentResumed,
    ExperimentUsage,
    ItemEvaluation,
)

from shared.event_log.topics import MAX_RECORD_BYTES
from shared.rules.datasets import (
    MAX_DESCRIPTION,
    MAX_METADATA_BYTES,
    check_author,
    check_dataset,
    check_dataset_archival,
    check_dataset_id,
    check_item,
    check_item_archival,
    check_metadata,
    check_splits,
)
from shared.rules.json_texts import check_json, check_json_object
from shared.rules.texts import check_bytes_id, check_finite, check_id, check_line, check_text
from shared.runtime.refusal import InvalidError

MAX_NAME, MAX_REASON = 255, 16_384
MAX_REQUEST_BYTES = 1024 * 1024
MAX_RESULT_BYTES = MAX_RECORD_BYTES - 100 * 1024
"""Of what came of an item; the rest of a record is the envelope's and Kafka's."""
MAX_REPETITIONS, MAX_CONCURRENCY = 100, 1_000
MAX_EVALUATIONS, MAX_EVALUATION_NAME, MAX_CATEGORY, MAX_EVALUATION_TEXT = 300, 200, 200, 16_384
MAX_VERSION = 2**53
"""Of a dataset: beyond any count of changes."""
TASK_KINDS = ("prompt", "sdk")
_MAX_TOKENS, _MAX_PICODOLLARS, _MAX_ATTEMPTS = 10**12, 10**18, 10**6
_YEAR_10000 = 253_402_300_800  # seconds since 1970; what a Timestamp must stay below


def check_request(requested: ExperimentRequested, path: str) -> None:
    """Raises InvalidError when no run can be asked for so. What tasks and evaluators take is not judged here."""
    if (size := requested.ByteSize()) > MAX_REQUEST_BYTES:
        raise InvalidError(path, f"has {size} bytes; at most {MAX_REQUEST_BYTES} are taken")
    check_id(requested.run_id, f"{path}.run_id")
    check_line(requested.name, f"{path}.name", most=MAX_NAME)
    kind = check_task(requested.task_json, f"{path}.task_json")["kind"]
    _check_data(requested, kind, path)
    for field in ("evaluators_json", "run_evaluators_json"):
        check_specs(getattr(requested, field), f"{path}.{field}")
    check_metadata(requested.metadata_json, f"{path}.metadata_json")
    if not 0 < requested.repetitions <= MAX_REPETITIONS:
        raise InvalidError(f"{path}.repetitions", f"are {requested.repetitions}; 1 to {MAX_REPETITIONS} are taken")
    if not 0 < requested.max_concurrency <= MAX_CONCURRENCY:
        why = f"is {requested.max_concurrency}; 1 to {MAX_CONCURRENCY} are taken"
        raise InvalidError(f"{path}.max_concurrency", why)
    for field in ("max_cost_usd", "max_seconds"):
        most: float = getattr(requested.budget, field)
        check_finite(most, f"{path}.budget.{field}")
        if most < 0:
            raise InvalidError(f"{path}.budget.{field}", f"{most:g} is below 0")
    check_text(requested.description, f"{path}.description", least=0, most=MAX_DESCRIPTION)
    check_author(requested.author, f"{path}.author")


def check_item_result(finished: ExperimentItemFinished, path: str) -> None:
    """Raises InvalidError when it can't be what came of an item.

    Its error, and what evaluators said, may have any characters: such a text is no reason to lose the result.
    """
    if (size := finished.ByteSize()) > MAX_RESULT_BYTES:
        raise InvalidError(path, f"has {size} bytes; at most {MAX_RESULT_BYTES} are taken")
    check_id(finished.run_id, f"{path}.run_id")
    check_id(finished.item_id, f"{path}.item_id")
    if finished.repetition >= MAX_REPETITIONS:
        raise InvalidError(f"{path}.repetition", f"is {finished.repetition}; at most {MAX_REPETITIONS - 1} is taken")
    check_bytes_id(finished.trace_id, f"{path}.trace_id", size=16)
    for field in ("output_json", "input_json", "expected_output_json"):
        if text := getattr(finished, field):
            check_json(text, f"{path}.{field}", most=MAX_RESULT_BYTES)
    check_json_object(finished.metadata_json, f"{path}.metadata_json", most=MAX_RESULT_BYTES)
    _check_times(finished, path)
    _check_usage(finished.usage, f"{path}.usage")
    _check_evaluations(finished.evaluations, f"{path}.evaluations")
    if finished.attempts > _MAX_ATTEMPTS:
        raise InvalidError(f"{path}.attempts", f"are {finished.attempts}; at most {_MAX_ATTEMPTS} are taken")


def check_end(finished: ExperimentFinished, path: str) -> None:
    """Raises InvalidError when no run can end so."""
    if (size := finished.ByteSize()) > MAX_RESULT_BYTES:
        raise InvalidError(path, f"has {size} bytes; at most {MAX_RESULT_BYTES} are taken")
    check_id(finished.run_id, f"{path}.run_id")
    if finished.outcome not in ExperimentOutcome.values():
        raise InvalidError(f"{path}.outcome", f"{finished.outcome} is no outcome")
    check_text(finished.reason, f"{path}.reason", least=0, most=MAX_REASON)
    _check_evaluations(finished.evaluations, f"{path}.evaluations")


def check_cancellation(cancelled: ExperimentCancelled, path: str) -> None:
    """Raises InvalidError when no run can be cancelled by it."""
    check_id(cancelled.run_id, f"{path}.run_id")
    check_text(cancelled.reason, f"{path}.reason", least=0, most=MAX_REASON)
    check_author(cancelled.author, f"{path}.author")


def check_pause(moved: ExperimentPaused | ExperimentResumed, path: str) -> None:
    """Raises InvalidError when no run can be paused or resumed by it."""
    check_id(moved.run_id, f"{path}.run_id")
    check_author(moved.author, f"{path}.author")


CHECKS: Mapping[str, Callable[[Any, str], None]] = {
    "dataset_created": check_dataset,
    "dataset_item_recorded": check_item,
    "dataset_item_archived": check_item_archival,
    "dataset_archived": check_dataset_archival,
    "experiment_requested": check_request,
    "experiment_item_finished": check_item_result,
    "experiment_finished": check_end,
    "experiment_cancelled": check_cancellation,
    "experiment_paused": check_pause,
    "experiment_resumed": check_pause,
}
"""By the payload's name in Event: every kind of event about datasets and runs."""


def subject_id_of(payload: Any) -> str:
    """What an event is about, and so where in the log it is: the dataset's id, or the run's."""
    return str(payload.dataset_id if payload.DESCRIPTOR.name.startswith("Dataset") else payload.run_id)


def check_task(task_json: str, path: str) -> dict[str, Any]:
    """The task of a run, with its kind.

    Raises InvalidError.
    """
    task = check_json(task_json, path, most=MAX_REQUEST_BYTES)
    if not isinstance(task, dict):
        raise InvalidError(path, "is no JSON object")
    if "kind" not in task:
        raise InvalidError(f"{path}.kind", "is missing")
    if task["kind"] not in TASK_KINDS:
        raise InvalidError(f"{path}.kind", f"{task['kind']!r} is none of {', '.join(TASK_KINDS)}")
    return task


def check_specs(specs_json: str, path: str) -> list[dict[str, Any]]:
    """The specs of evaluators; empty is none.

    Raises InvalidError.
    """
    specs = check_json(specs_json, path, most=MAX_REQUEST_BYTES) if specs_json else []
    if not isinstance(specs, list):
        raise InvalidError(path, "is no JSON list")
    if len(specs) > MAX_EVALUATIONS:
        raise InvalidError(path, f"are {len(specs)}; at most {MAX_EVALUATIONS} are taken")
    for n, spec in enumerate(specs):
        if not isinstance(spec, dict):
            raise InvalidError(f"{path}[{n}]", "is no JSON object")
    return specs


def _check_data(requested: ExperimentRequested, kind: str, path: str) -> None:
    """A run is over a version of a dataset, or a program's, over data of its own."""
    if requested.dataset_id:
        check_dataset_id(requested.dataset_id, f"{path}.dataset_id")
        if not 0 < requested.dataset_version <= MAX_VERSION:
            raise InvalidError(
                f"{path}.dataset_version", f"is {requested.dataset_version}; 1 to {MAX_VERSION} are taken"
            )
        check_splits(requested.splits, f"{path}.splits")
        return
    if kind != "sdk":
        raise InvalidError(f"{path}.dataset_id", "is missing: only a program can run over data that are in no dataset")
    for field in ("dataset_version", "splits"):
        if getattr(requested, field):
            raise InvalidError(f"{path}.{field}", "is of a dataset, and there is none")


def _check_times(finished: ExperimentItemFinished, path: str) -> None:
    for field in ("started_at", "ended_at"):
        if not finished.HasField(field):
            raise InvalidError(f"{path}.{field}", "is missing")
        if not _is_instant(getattr(finished, field)):
            raise InvalidError(f"{path}.{field}", "is not between the years 1970 and 9999")
    if finished.started_at.ToNanoseconds() > finished.ended_at.ToNanoseconds():
        raise InvalidError(f"{path}.ended_at", "is before started_at")


def _is_instant(timestamp: Timestamp) -> bool:
    return 0 <= timestamp.seconds < _YEAR_10000 and 0 <= timestamp.nanos < 1_000_000_000


def _check_usage(usage: ExperimentUsage, path: str) -> None:
    for field, most in (
        ("input_tokens", _MAX_TOKENS),
        ("output_tokens", _MAX_TOKENS),
        ("cost_picodollars", _MAX_PICODOLLARS),
    ):
        if (amount := getattr(usage, field)) > most:
            raise InvalidError(f"{path}.{field}", f"{amount} is above {most}")


def _check_evaluations(evaluations: Sequence[ItemEvaluation], path: str) -> None:
    if len(evaluations) > MAX_EVALUATIONS:
        raise InvalidError(path, f"are {len(evaluations)}; at most {MAX_EVALUATIONS} are taken")
    seen: set[str] = set()
    for n, evaluation in enumerate(evaluations):
        _check_evaluation(evaluation, f"{path}[{n}]")
        if evaluation.name in seen:
            raise InvalidError(f"{path}[{n}].name", f"{evaluation.name!r} is there twice")
        seen.add(evaluation.name)


def _check_evaluation(evaluation: ItemEvaluation, path: str) -> None:
    check_line(evaluation.name, f"{path}.name", most=MAX_EVALUATION_NAME)
    match evaluation.WhichOneof("value"):
        case None:
            raise InvalidError(f"{path}.value", "is missing: one of numeric, categorical, boolean, text, error")
        case "numeric":
            check_finite(evaluation.numeric, f"{path}.numeric")
        case "categorical":
            check_line(evaluation.categorical, f"{path}.categorical", most=MAX_CATEGORY)
        case "text":
            _check_length(evaluation.text, f"{path}.text")
        case "error":
            _check_length(evaluation.error, f"{path}.error")
    _check_length(evaluation.comment, f"{path}.comment")
    check_line(evaluation.evaluator_version, f"{path}.evaluator_version", least=0, most=255)
    check_json_object(evaluation.metadata_json, f"{path}.metadata_json", most=MAX_METADATA_BYTES)
    if evaluation.score_id:
        check_id(evaluation.score_id, f"{path}.score_id")


def _check_length(text: str, path: str) -> None:
    if len(text) > MAX_EVALUATION_TEXT:
        raise InvalidError(path, f"has {len(text)} characters; at most {MAX_EVALUATION_TEXT} are taken")
