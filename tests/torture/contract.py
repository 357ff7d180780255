"""Events about scores, prompts, datasets and runs, read without generated code: field numbers by hand, from the .proto
files. What a message has beyond them is kept under its number, so that no content goes by unseen.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.torture.wire import Value, fields

SCORES, PROMPTS, EXPERIMENTS = "lodestream.scores", "lodestream.prompts", "lodestream.experiments"
TOPICS = (SCORES, PROMPTS, EXPERIMENTS)
Content = dict[str, Any]
"""What is on the wire by the fields' names: texts, bytes in hex, numbers, lists, and messages as Content again."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    kind: "str | Mapping[int, _Field]"
    """text, hex, number, double, bool; or the fields of a message."""
    repeated: bool = False


def _fields(*names: str, **numbered: "_Field") -> dict[int, _Field]:
    """Fields counted from 1, each `name:kind`, `name:kind*` where it is repeated, "" where a number is not used."""
    found = {}
    for number, described in enumerate(names, 1):
        if described:
            name, _, kind = described.partition(":")
            found[number] = _Field(name, kind.removesuffix("*") or "text", kind.endswith("*"))
    return found | {int(number.removeprefix("f")): each for number, each in numbered.items()}


_TIMESTAMP = _fields("seconds:number", "nanos:number")
_TARGET = _fields("trace_id:hex", "span_id:hex", "session_id", "run_id")
_SCORE_VALUE = _fields("numeric:double", "categorical", "boolean:bool", "text")
_CATEGORY = _fields("label", "value:double")
_SCORE = _fields(
    "score_id", "", "name", "", "comment", "config_id", "source:number", "author", "evaluator_version", "environment",
    "metadata_json", "category_value:double", f2=_Field("target", _TARGET), f4=_Field("value", _SCORE_VALUE),
)  # fmt: skip
_RETRACTION = _fields("score_id", "", "reason", f2=_Field("target", _TARGET))
_CONFIG = _fields(
    "config_id", "name", "type:number", "min_value:double", "max_value:double", "", "description", "archived:bool",
    f6=_Field("categories", _CATEGORY, repeated=True),
)  # fmt: skip
_MESSAGE = _fields("role", "content")
_CHAT = {1: _Field("items", {1: _Field("message", _MESSAGE), 2: _Field("placeholder", "text")}, repeated=True)}
_VERSION_CREATED = _fields(
    "prompt_name", "text", "", "config_json", "labels:text*", "tags:text*", "commit_message", "author",
    f3=_Field("chat", _CHAT),
)  # fmt: skip
_LABELS_MOVED = _fields("prompt_name", "version:number", "labels:text*", "expected_revision:number", "author")
_ROLLED_BACK = _fields("prompt_name", "label", "expected_revision:number", "author")
_ARCHIVED_PROMPT = _fields("prompt_name", "author")
PROMPT_VERSION = _fields(
    "name", "version:number", "text", "", "config_json", "labels:text*", "tags:text*", "commit_message", "author",
    "", "revision:number", f4=_Field("chat", _CHAT), f10=_Field("created_at", _TIMESTAMP),
)  # fmt: skip
"""lodestream_proto.v1.PromptVersion, as Postgres and Redis keep it."""
PROMPT_HEAD = _fields(
    "name", "revision:number", "archived:bool", "latest_version:number",
    f5=_Field("labels", _fields("label", "version:number"), repeated=True),
    f6=_Field("versions", PROMPT_VERSION, repeated=True),
)  # fmt: skip
"""lodestream_proto.v1.PromptHead, as Redis keeps it."""
_DATASET = _fields(
    "dataset_id", "name", "description", "metadata_json", "input_schema_json", "expected_output_schema_json", "author"
)
_ITEM = _fields(
    "dataset_id", "item_id", "input_json", "expected_output_json", "metadata_json", "source_trace_id:hex",
    "source_span_id:hex", "splits:text*", "author",
)  # fmt: skip
_REQUEST = _fields(
    "run_id", "name", "dataset_id", "task_json", "evaluators_json", "metadata_json", "repetitions:number",
    "max_concurrency:number", "dataset_version:number", "splits:text*", "description", "", "author",
    "run_evaluators_json", f12=_Field("budget", _fields("max_cost_usd:double", "max_seconds:double")),
)  # fmt: skip
EVALUATION = _fields(
    "name", "numeric:double", "categorical", "boolean:bool", "text", "error", "comment", "evaluator_version",
    "metadata_json", "score_id",
)  # fmt: skip
"""lodestream_proto.v1.ItemEvaluation."""
RESULT = _fields(
    "run_id", "item_id", "repetition:number", "trace_id:hex", "output_json", "error", "", "", "", "", "attempts:number",
    "input_json", "expected_output_json", "metadata_json",
    f7=_Field("started_at", _TIMESTAMP), f8=_Field("ended_at", _TIMESTAMP),
    f9=_Field("usage", _fields("input_tokens:number", "output_tokens:number", "cost_picodollars:number")),
    f10=_Field("evaluations", EVALUATION, repeated=True),
)  # fmt: skip
"""lodestream_proto.v1.ExperimentItemFinished."""
_ENDED = _fields("run_id", "outcome:number", "reason", f4=_Field("evaluations", EVALUATION, repeated=True))
_KINDS: Mapping[int, tuple[str, str, Mapping[int, _Field]]] = {
    20: (SCORES, "score_recorded", _SCORE),
    21: (SCORES, "score_retracted", _RETRACTION),
    22: (SCORES, "score_config_defined", _CONFIG),
    30: (PROMPTS, "prompt_version_created", _VERSION_CREATED),
    31: (PROMPTS, "prompt_labels_moved", _LABELS_MOVED),
    32: (PROMPTS, "prompt_archived", _ARCHIVED_PROMPT),
    33: (PROMPTS, "prompt_label_rolled_back", _ROLLED_BACK),
    40: (EXPERIMENTS, "dataset_created", _DATASET),
    41: (EXPERIMENTS, "dataset_item_recorded", _ITEM),
    42: (EXPERIMENTS, "dataset_item_archived", _fields("dataset_id", "item_id", "author")),
    43: (EXPERIMENTS, "experiment_requested", _REQUEST),
    44: (EXPERIMENTS, "experiment_item_finished", RESULT),
    45: (EXPERIMENTS, "experiment_finished", _ENDED),
    46: (EXPERIMENTS, "experiment_cancelled", _fields("run_id", "reason", "author")),
    47: (EXPERIMENTS, "dataset_archived", _fields("dataset_id", "author")),
    48: (EXPERIMENTS, "experiment_paused", _fields("run_id", "author")),
    49: (EXPERIMENTS, "experiment_resumed", _fields("run_id", "author")),
}
_BY_NAME = {name: schema for _, name, schema in _KINDS.values()}
_ENVELOPE = frozenset({1, 2, 3, 4, 5})


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One record of a topic. `why` tells what makes it unreadable; then it has no content."""

    topic: str
    partition: int
    offset: int
    raw: bytes
    appended_ms: int
    """The log's own time of it."""
    project: str = ""
    event_id: str = ""
    occurred_us: int | None = None
    received_us: int | None = None
    kind: str = ""
    """The payload's name in lodestream_proto.v1.Event."""
    content: Content = field(default_factory=dict)
    payload: bytes = b""
    why: str = ""

    @property
    def appended_us(self) -> int:
        """The log's own time of it."""
        return self.appended_ms * 1000

    @property
    def where(self) -> str:
        """For people."""
        return f"{self.topic} {self.partition}:{self.offset}"


def read_event(topic: str, partition: int, offset: int, appended_ms: int, raw: bytes | None) -> LogEvent:
    """What a record of a topic says."""
    place, raw, project = (topic, partition, offset), raw or b"", ""
    try:
        event = dict(fields(raw))
        project = _text(event.get(2, b""))
        if not project:
            return LogEvent(*place, raw, appended_ms, why="no project")
        number = next((each for each in event if each not in _ENVELOPE), 0)
        if number not in _KINDS or _KINDS[number][0] != topic:
            return LogEvent(*place, raw, appended_ms, project, why=f"payload {number} is not of this topic")
        payload = _bytes(event[number])
        return LogEvent(
            *place, raw, appended_ms, project, _text(event.get(1, b"")), _time_us(event.get(3)),
            _time_us(event.get(4)), _KINDS[number][1], read_message(payload, _KINDS[number][2]), payload,
        )  # fmt: skip
    except ValueError as error:
        return LogEvent(*place, raw, appended_ms, project, why=str(error))


def content_of(kind: str, payload: bytes) -> Content:
    """What a payload of this name says."""
    return read_message(payload, _BY_NAME[kind])


def read_message(raw: bytes, schema: Mapping[int, _Field]) -> Content:
    """What a message says.

    Raises ValueError when the bytes are none.
    """
    content: Content = {}
    for number, value in fields(raw):
        known = schema.get(number)
        if known is None:
            content[f"#{number}"] = value.hex() if isinstance(value, bytes) else value
        elif known.repeated:
            content.setdefault(known.name, []).append(_read(known, value))
        else:
            content[known.name] = _read(known, value)
    return content


def instant(microseconds: int) -> datetime:
    """An instant by its microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


def microseconds(timestamp: Content | None) -> int:
    """Of a google.protobuf.Timestamp."""
    seconds, nanos = ((timestamp or {}).get(name, 0) for name in ("seconds", "nanos"))
    return int(seconds) * 1_000_000 + int(nanos) // 1000


def readable(events: Sequence[LogEvent]) -> Iterator[LogEvent]:
    """Those that say something."""
    return (event for event in events if not event.why)


def _read(known: _Field, value: Value) -> Any:
    if not isinstance(known.kind, str):
        return read_message(_bytes(value), known.kind)
    match known.kind:
        case "text":
            return _text(value)
        case "hex":
            return _bytes(value).hex()
        case "double":
            return struct.unpack("<d", _number(value).to_bytes(8, "little"))[0]
        case "bool":
            return bool(_number(value))
    return _number(value)


def _time_us(value: Value | None) -> int | None:
    return None if value is None else microseconds(read_message(_bytes(value), _TIMESTAMP))


def _text(value: Value) -> str:
    return _bytes(value).decode()


def _bytes(value: Value) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number in the place of bytes")  # noqa: TRY004 - the bytes are wrong, not the caller
    return value


def _number(value: Value) -> int:
    if isinstance(value, bytes):
        raise ValueError("bytes in the place of a number")  # noqa: TRY004
    return value
