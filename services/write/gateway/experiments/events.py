"""Events about datasets and runs as records of the log: checked, and all about one of them in one partition."""

from collections.abc import Collection, Iterable
from typing import Any

from lodestream_proto.v1.event_pb2 import Event

from services.write.gateway.records import Envelope
from shared.event_log.append import Record
from shared.event_log.topics import EXPERIMENTS
from shared.rules.experiments import CHECKS, subject_id_of
from shared.runtime.refusal import InvalidError

_TOLD = ("experiment_item_finished", "experiment_finished")


def runs_named(events: Iterable[Any]) -> set[str]:
    """The ids of the runs that these events tell of."""
    return {
        getattr(event, kind).run_id
        for event in events
        if isinstance(event, Event) and (kind := event.WhichOneof("payload")) in _TOLD
    }


def told_record(event: Event, envelope: Envelope, runs: Collection[str]) -> Record:
    """What a program tells of a run of its; `runs` are those that there are.

    Raises InvalidError naming the field that is wrong.
    """
    kind = str(event.WhichOneof("payload"))
    payload: Any = getattr(event, kind)
    CHECKS[kind](payload, kind)
    if payload.run_id not in runs:
        raise InvalidError(f"{kind}.run_id", f"the project has no run {payload.run_id!r}")
    return checked_record(kind, payload, envelope)


def checked_record(kind: str, payload: Any, envelope: Envelope) -> Record:
    """The record of a payload that has been checked; `kind` is its name in Event."""
    key = f"{envelope.project_id}/{subject_id_of(payload)}".encode()
    return Record(EXPERIMENTS, key, envelope.event(**{kind: payload}).SerializeToString())
