"""Values that no program means to send, for every key that some dialect knows. The gateway takes all of them."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import strategies as st
from lodestream_proto.v1.event_pb2 import Producer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from services.write.gateway.records import Envelope, new_event_id
from services.write.gateway.spans import CheckedSpans, check_spans
from shared.event_log.append import Record
from shared.event_log.codec import LogRecord
from shared.runtime.fairness import Turns
from shared.spans.dialects.dialect import Extractor
from shared.spans.dialects.registry import DIALECTS
from tests.support.records import NOON, at

T = TypeVar("T")
BOM, OVERRIDE, LONE, NUL = "\ufeff", "\u202e", "\ud83d", "\0"


def _keys_of(dialect: Any) -> list[str]:
    """Every key that a dialect declares, and one below each prefix, in several writings."""
    found: list[str] = []
    for field in dialect.__dataclass_fields__:
        declared = getattr(dialect, field)
        if isinstance(declared, Extractor):
            found += declared.keys
            below = ("0", "0.content", "0.message.role", f"{'1' * 5000}.message.content", "x", "")
            found += [f"{prefix}{step}" for prefix in declared.prefixes for step in below]
        elif isinstance(declared, tuple):
            found += declared
    found += [f"{key}.{entry}" for key in dialect.metadata for entry in ("x", f"a{NUL}b", "")]
    return found


KEYS = sorted(
    {
        *chain.from_iterable(map(_keys_of, DIALECTS)),
        *("gen_ai.request.temperature", "telemetry.sdk.name", f"un{NUL}known", ""),
    }
)

NUMBERS = (
    0, -1, 2**48 + 1, 9_000_000_000_000_000_000, 2**63 - 1, -(2**63), 0.5, -0.0, 1e308, 5e-324,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
TEXTS = (
    "", NUL, f"a{NUL}b", "x" * 600, f"{OVERRIDE}{BOM}é\u2028\x85", "😀" * 300, "\\u0000", "\\ud800", "²", "٣",
    "9" * 5000, "1e999", "-1e999999999", "nan", "sNaN", "1_000", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59",
)  # fmt: skip
STRUCTURES: tuple[Any, ...] = (
    [], {}, [LONE], {LONE: 1}, {"a\0b": 1}, {"input": "5", "output": None, "x": True, "y": [1]},
    [{"role": "user", "content": f"hi {LONE}"}], [{"role": "user", "content": "x" * 900 + LONE + NUL}],
    {"input": 9_000_000_000_000_000_000, "output": 10**400, "total": -1}, {"input": float("nan"), "output": 1e308},
    {"prompt_tokens": 10**30, "prompt_tokens_details": {"cached_tokens": 10**31}, "total_tokens": LONE},
    {"input_tokens": 2**62, "cache_read_input_tokens": 2**62, "cache_creation_input_tokens": 2**62},
    {f"kind {n}": 2**47 for n in range(300)}, {"k" * 100_000: 1, "": 2}, ["t" * 600, NUL, *map(str, range(300))],
)  # fmt: skip
JSON_TEXTS = (
    *map(json.dumps, STRUCTURES),
    "[" * 150 + "]" * 150, "[" * 300 + f'"{LONE}"'.encode("ascii", "backslashreplace").decode() + "]" * 300,
    '{"a":' * 950 + "1" + "}" * 950, "[" * 5000 + "]" * 5000, '[{"role":"user","content":"cut',
    '{"input": 1e999, "output": ' + "9" * 5000 + "}", '{"input": ' + "1" * 400 + "}",
    '[{"amount": 123456789012345678901234567890, "rate": 1e999, "text": "\\ud800"}]', "NaN", "null",
)  # fmt: skip


def any_value(value: Any, *, depth: int = 0) -> AnyValue:
    """A value as OTLP has it; what protobuf refuses in a string is left out, since nobody could send it."""
    match value:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=max(-(2**63), min(value, 2**63 - 1)))
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=[any_value(each) for each in value]))
        case dict():
            return AnyValue(kvlist_value=KeyValueList(values=attributes_of(value)))
    return AnyValue(string_value=sendable(value))


def attributes_of(values: Mapping[str, Any]) -> list[KeyValue]:
    """Attributes of a span."""
    return [KeyValue(key=sendable(key), value=any_value(value)) for key, value in values.items()]


def sendable(text: str) -> str:
    """A text as protobuf takes it: without lone surrogates."""
    return text.encode("utf-8", "ignore").decode()


def nested(depth: int) -> AnyValue:
    """Lists within each other."""
    value = AnyValue(string_value=NUL)
    for _ in range(depth):
        value = AnyValue(array_value=ArrayValue(values=[value]))
    return value


VALUES = [
    *map(any_value, (None, True, b"\xff\0", *NUMBERS, *TEXTS, *STRUCTURES, *JSON_TEXTS)),
    nested(40),
]
"""By each of them every key is told, as the type that it should have and as the others."""


def one_of(values: Sequence[T]) -> st.SearchStrategy[T]:
    """One of them; hypothesis would write all of them into each of its messages."""
    return st.integers(0, len(values) - 1).map(values.__getitem__)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=9)
    | st.text(st.characters(), max_size=20) | one_of([LONE, NUL, OVERRIDE, *TEXTS]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(), max_size=5) | one_of(KEYS), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
"""Values that may be in JSON text."""
ANY_VALUES = one_of(VALUES) | ANYTHING.map(any_value) | ANYTHING.map(partial(json.dumps, default=repr)).map(any_value)
ATTRIBUTES = st.lists(st.builds(KeyValue, key=one_of(KEYS) | st.text(max_size=9), value=ANY_VALUES), max_size=12)
NANOSECONDS = st.sampled_from([1, 10**18, int(NOON.timestamp()) * 10**9, 2**63, 2**64 - 1])
SENDABLE = st.text(max_size=20) | one_of([sendable(text) for text in TEXTS])
SPANS = st.builds(
    Span,
    trace_id=st.just(b"a trace of theirs"[:16]),
    span_id=st.integers(1, 2**64 - 1).map(lambda number: number.to_bytes(8, "big")),
    parent_span_id=st.sampled_from([b"", bytes(8), b"12345678"]),
    name=SENDABLE,
    start_time_unix_nano=NANOSECONDS,
    end_time_unix_nano=NANOSECONDS | st.just(0),
    attributes=ATTRIBUTES,
    status=st.builds(Status, code=st.sampled_from([0, 1, 2]), message=SENDABLE),
    events=st.lists(
        st.builds(
            Span.Event,
            name=st.sampled_from(
                ["gen_ai.user.message", "gen_ai.choice", "gen_ai.client.inference.operation.details", NUL]
            ),
            time_unix_nano=NANOSECONDS | st.just(0),
            attributes=ATTRIBUTES,
        ),
        max_size=2,
    ),
    links=st.lists(
        st.builds(Span.Link, trace_id=st.binary(max_size=20), span_id=st.binary(max_size=9), attributes=ATTRIBUTES),
        max_size=1,
    ),
)
PRODUCERS = st.builds(Producer, name=SENDABLE, version=SENDABLE)
SCOPES = st.builds(
    InstrumentationScope, name=SENDABLE | st.sampled_from(["langfuse-sdk"]), version=SENDABLE | st.just("²")
)


def request_of(
    spans: Sequence[Span], *, resource: Sequence[KeyValue] = (), scope: InstrumentationScope | None = None
) -> ExportTraceServiceRequest:
    """An OTLP request."""
    its = ScopeSpans(scope=scope, spans=spans)
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=Resource(attributes=resource), scope_spans=[its])]
    )


async def accepted(request: ExportTraceServiceRequest, producer: Producer | None = None) -> CheckedSpans:
    """What the gateway makes of a request."""
    received_at = Timestamp()
    received_at.FromDatetime(NOON)
    envelope = Envelope("p", producer or Producer(name="test"), new_event_id(), received_at, received_at)
    async with Turns().of("p") as turn:
        raw = request.SerializeToString()
        return await check_spans(raw, lambda _: envelope, field="request", max_spans=50_000, turn=turn)


def recorded(records: Sequence[Record]) -> list[LogRecord]:
    """Records as the projection meets them."""
    return [at(record.value, offset=offset) for offset, record in enumerate(records)]


_JSON_TEXTS_OF_EVENTS = (
    "{}", "[]", "null", '"\\u0000"', '{"a":"\\u0000"}', '{"a":1,"a":2}', '{"a":1e999}', "NaN",
    '{"a":' + "9" * 400 + "}", json.dumps({LONE: LONE}), "[" * 65 + "]" * 65, "[" * 2000 + "]" * 2000,
    '{"kind":"prompt"}', '["cut',
)  # fmt: skip


def storable(value: Any) -> bool:
    """Whether Postgres has room for a value of a row, whatever its column: COPY's encoding does not see all of it."""
    match value:
        case str():
            return "\0" not in value and sendable(value) == value
        case int():
            return -(2**63) <= value < 2**63
        case float():
            return math.isfinite(value)
        case list() | tuple() | set() | frozenset():
            return all(map(storable, value))
        case dict():
            return all(map(storable, (*value.keys(), *value.values())))
    return True


def mutants(message: Any) -> Iterator[tuple[str, Any]]:
    """Copies of a message, in each of which one field, however deep, has a hostile value; and which and what it is."""
    for path, descriptor in _leaves(message):
        for value in _hostile(descriptor):
            mutant = type(message)()
            mutant.CopyFrom(message)
            if _set(mutant, path, value):
                yield f"{'.'.join(map(str, path))}={value!r:.60}", mutant


Path = tuple[str | int, ...]


def _leaves(message: Any, path: Path = (), depth: int = 0) -> Iterator[tuple[Path, FieldDescriptor]]:
    for descriptor in message.DESCRIPTOR.fields:
        its = (*path, descriptor.name)
        if descriptor.is_repeated:
            its = (*its, 0)
        if descriptor.message_type is None:
            yield its, descriptor
        elif depth < 4:
            yield from _leaves(message_factory.GetMessageClass(descriptor.message_type)(), its, depth + 1)


def _set(message: Any, path: Path, value: Any) -> bool:
    """Set a field, making what is on the way to it; False: the field has no room for it."""
    name, *rest = path
    if rest and rest[0] == 0:
        below, rest = getattr(message, str(name)), rest[1:]
        if not rest:
            try:
                below.append(value)
            except (ValueError, TypeError):
                return False
            return True
        return _set(below[0] if below else below.add(), tuple(rest), value)
    if rest:
        return _set(getattr(message, str(name)), tuple(rest), value)
    try:
        setattr(message, str(name), value)
    except (ValueError, TypeError):  # out of the type's range: nobody could send it
        return False
    return True


def _hostile(descriptor: FieldDescriptor) -> Sequence[Any]:
    match descriptor.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if descriptor.type == FieldDescriptor.TYPE_BYTES:
            return b"", b"\xff\0", bytes(8), bytes(16), b"t" * 16, b"s" * 8, b"x" * 5_000
        case FieldDescriptor.CPPTYPE_STRING:
            return [*map(sendable, TEXTS), *_JSON_TEXTS_OF_EVENTS]
        case FieldDescriptor.CPPTYPE_ENUM:
            return 0, 1, 2, 99, -1, 2**31 - 1
        case FieldDescriptor.CPPTYPE_BOOL:
            return False, True
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return [float(number) for number in NUMBERS]
    return 0, 1, -1, 2**31 - 1, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1, -(2**31), -(2**63), 253_402_300_800
