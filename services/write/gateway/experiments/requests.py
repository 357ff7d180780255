"""A run as it is asked for: with what is left out filled in, and compared with one that there is. Pure."""

from lodestream_proto.v1.experiment_event_pb2 import ExperimentRequested

from shared.rules.json_texts import is_same_json

REPETITIONS, CONCURRENCY = 1, 8
"""Of a run that does not say."""
_JSON = ("task_json", "evaluators_json", "run_evaluators_json", "metadata_json")
_COMPARED = (
    "name",
    "dataset_id",
    "dataset_version",
    "splits",
    *_JSON,
    "repetitions",
    "max_concurrency",
    "description",
    "budget",
)


def with_defaults(asked: ExperimentRequested) -> ExperimentRequested:
    """A copy that says how often, and how much at once; its splits sorted."""
    requested = ExperimentRequested()
    requested.CopyFrom(asked)
    requested.repetitions = asked.repetitions or REPETITIONS
    requested.max_concurrency = asked.max_concurrency or CONCURRENCY
    requested.splits[:] = sorted(set(asked.splits))
    return requested


def differences(one: ExperimentRequested, other: ExperimentRequested) -> list[str]:
    """The fields in which two runs of one id were asked for differently; whoever asked, it is the same run."""
    return [field for field in _COMPARED if not _is_same(one, other, field)]


def _is_same(one: ExperimentRequested, other: ExperimentRequested, field: str) -> bool:
    if field in _JSON:
        return is_same_json(getattr(one, field), getattr(other, field))
    if field == "splits":
        return sorted(one.splits) == sorted(other.splits)
    return bool(getattr(one, field) == getattr(other, field))
