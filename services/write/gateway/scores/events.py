"""Events about scores as records of the log: checked, and all about one target, or one config, in one partition."""

from collections.abc import Iterable, Mapping
from typing import Any

from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.score_event_pb2 import ScoreConfigDefined, ScoreTarget

from services.write.gateway.records import Envelope
from services.write.gateway.scores.checks import Configs, check_retraction, kept_score
from services.write.gateway.scores.config_checks import kept_config
from shared.event_log.append import Record
from shared.event_log.topics import SCORES


def configs_named(events: Iterable[Any]) -> set[str]:
    """The ids of the configs that these events' scores name."""
    return {
        event.score_recorded.config_id
        for event in events
        if isinstance(event, Event)
        and event.WhichOneof("payload") == "score_recorded"
        and event.score_recorded.config_id
    }


def score_record(event: Event, envelope: Envelope, configs: Configs) -> Record:
    """Raises InvalidError naming the field that is wrong."""
    kept = kept_score(event.score_recorded, envelope.event_id, configs)
    return _record(envelope, _key_of(kept.target), {"score_recorded": kept})


def retraction_record(event: Event, envelope: Envelope) -> Record:
    """Raises InvalidError naming the field that is wrong."""
    retracted = event.score_retracted
    check_retraction(retracted)
    return _record(envelope, _key_of(retracted.target), {"score_retracted": retracted})


def config_record(event: Event, envelope: Envelope) -> Record:
    """Raises InvalidError naming the field that is wrong."""
    return defined_record(kept_config(event.score_config_defined, envelope.event_id), envelope)


def defined_record(config: ScoreConfigDefined, envelope: Envelope) -> Record:
    """The record of a config that has been checked."""
    return _record(envelope, config.config_id.encode(), {"score_config_defined": config})


def _key_of(target: ScoreTarget) -> bytes:
    return target.trace_id or (target.session_id or target.run_id).encode()


def _record(envelope: Envelope, key: bytes, payload: Mapping[str, Any]) -> Record:
    value = envelope.event(**payload).SerializeToString()
    return Record(SCORES, f"{envelope.project_id}/".encode() + key, value)
