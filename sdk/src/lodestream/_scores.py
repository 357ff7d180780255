"""A score as the contract's Event, written by hand like spans: it takes the same way to the server."""

import datetime as dt
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Any, Literal, TypedDict, get_args

from lodestream_evals.evaluation import ScoreType
from lodestream_evals.lenient_json import to_json

from lodestream._ids import new_event_id, parse_id
from lodestream._version import SDK_NAME, __version__
from lodestream._wire.payloads import EncodedEvent
from lodestream._wire.protobuf import delimited, text, varint

ScoreSource = Literal["API", "EVALUATOR", "ANNOTATION"]

_DOUBLE = Struct("<d").pack
_SOURCES = {source: number for number, source in enumerate(get_args(ScoreSource), 1)}
_PRODUCER = delimited(b"\x2a", delimited(b"\x0a", text(SDK_NAME)) + delimited(b"\x12", text(__version__)))


class ScoreFields(TypedDict, total=False):
    """What can be told of a score beside its name and value."""

    score_id: str | None
    """A score with an id that was used before supersedes: the newer counts, both are kept. Default: a new id."""
    data_type: ScoreType | None
    """Default: from the value. Texts are categories unless TEXT is said."""
    comment: str | None
    config_id: str | None
    """The score config that the value has to keep to; the server refuses one that does not."""
    metadata: Any
    timestamp: dt.datetime | None
    """When it was given; default: now."""
    environment: str | None
    """Default: that of the observation that is scored, or is current; else the client's."""
    source: ScoreSource | None
    author: str | None
    evaluator_version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is scored: a trace, an observation in it, a session, or an experiment run."""

    trace_id: str = ""
    observation_id: str = ""
    session_id: str = ""
    run_id: str = ""

    def encoded(self) -> bytes:
        """A ScoreTarget. Raises ValueError when it is none."""
        if sum(map(bool, (self.trace_id, self.session_id, self.run_id))) != 1:
            raise ValueError("a score is of one of: trace_id, session_id, dataset_run_id")
        if self.observation_id and not self.trace_id:
            raise ValueError("observation_id needs the trace_id it belongs to")
        parts = []
        if self.trace_id:
            parts.append(delimited(b"\x0a", parse_id(self.trace_id, 32).to_bytes(16, "big")))
        if self.observation_id:
            parts.append(delimited(b"\x12", parse_id(self.observation_id, 16).to_bytes(8, "big")))
        return b"".join(parts) + _texts({b"\x1a": self.session_id, b"\x22": self.run_id})


@dataclass(frozen=True, slots=True)
class Score(EncodedEvent):
    """Ready to be sent."""

    score_id: str
    name: str


def score_of(target: Target, name: str, value: Any, fields: Mapping[str, Any]) -> Score:
    """The score.

    Raises ValueError or TypeError naming what is wrong.
    """
    if unknown := fields.keys() - ScoreFields.__annotations__.keys():
        raise TypeError(f"a score has no {', '.join(sorted(unknown))}")
    if not isinstance(name, str) or not name:
        raise ValueError("a score has a name")
    event_id = new_event_id()
    score_id = str(fields.get("score_id") or event_id)
    metadata, source = fields.get("metadata"), fields.get("source") or "API"
    if source not in _SOURCES:
        raise ValueError(f"source={source!r} is none of {', '.join(_SOURCES)}")
    recorded = b"".join(
        (
            _texts({b"\x0a": score_id}),
            delimited(b"\x12", target.encoded()),
            _texts({b"\x1a": name}),
            delimited(b"\x22", _value(value, fields.get("data_type"))),
            _texts({b"\x2a": fields.get("comment"), b"\x32": fields.get("config_id")}),
            b"\x38" + varint(_SOURCES[source]),
            _texts(
                {
                    b"\x42": fields.get("author"),
                    b"\x4a": fields.get("evaluator_version"),
                    b"\x52": fields.get("environment"),
                    b"\x5a": None if metadata is None else _object(metadata),
                }
            ),
        )
    )
    event = (
        _texts({b"\x0a": event_id}),
        _timestamp(fields.get("timestamp")),
        _PRODUCER,
        delimited(b"\xa2\x01", recorded),
    )
    return Score(b"".join(event), score_id, name)


def _value(value: Any, data_type: ScoreType | None) -> bytes:
    """A ScoreValue."""
    kind = data_type or _kind_of(value)
    if kind in ("CATEGORICAL", "TEXT"):
        if not isinstance(value, str) or not value:
            raise ValueError(f"value={value!r:.100} is not a text, which {kind} asks for")
        return delimited(b"\x12" if kind == "CATEGORICAL" else b"\x22", text(value))
    if kind == "BOOLEAN":
        if value not in (0, 1):
            raise ValueError(f"value={value!r:.100} is neither true nor false, which BOOLEAN asks for")
        return b"\x18" + varint(int(value))
    if kind == "NUMERIC":
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"value={value!r} is not a finite number")
        return b"\x09" + _DOUBLE(number)
    raise ValueError(f"data_type={data_type!r} is none of {', '.join(get_args(ScoreType))}")


def _kind_of(value: Any) -> ScoreType:
    if isinstance(value, bool):
        return "BOOLEAN"
    return "CATEGORICAL" if isinstance(value, str) else "NUMERIC"


def _object(metadata: Any) -> str:
    """Return metadata as the text of a JSON object."""
    return to_json(metadata if isinstance(metadata, Mapping) else {"metadata": metadata})


def _timestamp(instant: dt.datetime | None) -> bytes:
    """The field of the event that says when it occurred."""
    nanoseconds = time.time_ns() if instant is None else int(instant.timestamp() * 1e6) * 1_000
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    if seconds < 0:
        raise ValueError(f"timestamp={instant} is before 1970")
    return delimited(b"\x1a", b"\x08" + varint(seconds) + b"\x10" + varint(nanos))


def _texts(fields: Mapping[bytes, str | None]) -> bytes:
    """Fields of text by their tags; empty ones are left out."""
    return b"".join(delimited(tag, text(str(value))) for tag, value in fields.items() if value)
