"""Scores and their configs: what can be taken, as which records, and the RPC that defines configs."""

import re
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from typing import Any

import asyncpg
import grpc
import orjson
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1 import scores_pb2 as pb
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.query_pb2 import WaitFor
from lodestream_proto.v1.score_event_pb2 import (
    SCORE_SOURCE_API,
    SCORE_TYPE_BOOLEAN,
    SCORE_TYPE_CATEGORICAL,
    SCORE_TYPE_NUMERIC,
    SCORE_TYPE_TEXT,
    SCORE_TYPE_UNSPECIFIED,
    ScoreConfigDefined,
    ScoreRecorded,
    ScoreRetracted,
    ScoreSource,
    ScoreTarget,
    ScoreType,
)

from services.write.gateway import proxy
from services.write.gateway.admission import Admission, OverQuotaError
from services.write.gateway.otlp_request import reason_of
from services.write.gateway.records import Envelope, new_event_id
from services.write.gateway.spans import append_all
from services.write.gateway.write_rpc import exhausted, producer_of, the_request
from shared.event_log.append import Appender, Record
from shared.event_log.position import to_token
from shared.event_log.topics import SCORES
from shared.rules.texts import check_bytes_id, check_finite, check_line, check_text
from shared.runtime.refusal import Context, InvalidError, UnavailableError, answering
from shared.runtime.settings import GatewaySettings
from shared.storage.postgres import DATABASE_ERRORS
from shared.storage.score_configs import COLUMNS, config_of

MAX_ID, MAX_NAME, MAX_LABEL, MAX_TEXT = 255, 200, 200, 500
MAX_COMMENT, MAX_METADATA_BYTES = 16_384, 65_536
Configs = Mapping[str, ScoreConfigDefined]
"""By their ids; an id that is not there is unknown."""
_TYPES = {
    "numeric": SCORE_TYPE_NUMERIC,
    "categorical": SCORE_TYPE_CATEGORICAL,
    "boolean": SCORE_TYPE_BOOLEAN,
    "text": SCORE_TYPE_TEXT,
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def kept_score(score: ScoreRecorded, event_id: str, configs: Configs, path: str = "score_recorded") -> ScoreRecorded:
    """The score as it goes into the log: with an id, a name, a source, and the value of its category.

    Raises InvalidError naming the field below `path`.
    """
    kept = ScoreRecorded()
    kept.CopyFrom(score)
    kept.score_id = score.score_id or event_id
    check_line(kept.score_id, f"{path}.score_id", most=MAX_ID)
    check_target(kept.target, f"{path}.target")
    _check_value(kept, path)
    kept.ClearField("category_value")
    if kept.config_id:
        check_line(kept.config_id, f"{path}.config_id", most=MAX_ID)
        _keep_to_config(kept, configs.get(kept.config_id), path)
    check_line(kept.name, f"{path}.name", most=MAX_NAME)
    if kept.source not in ScoreSource.values():
        raise InvalidError(f"{path}.source", f"{kept.source} is no source")
    kept.source = kept.source or SCORE_SOURCE_API
    check_text(kept.comment, f"{path}.comment", least=0, most=MAX_COMMENT)
    for field in ("author", "evaluator_version", "environment"):
        check_line(getattr(kept, field), f"{path}.{field}", least=0, most=MAX_ID)
    _check_metadata(kept.metadata_json, f"{path}.metadata_json")
    return kept


def check_retraction(retracted: ScoreRetracted, path: str = "score_retracted") -> None:
    """Raises InvalidError when no score can be withdrawn by it."""
    check_line(retracted.score_id, f"{path}.score_id", most=MAX_ID)
    check_target(retracted.target, f"{path}.target")
    check_text(retracted.reason, f"{path}.reason", least=0, most=MAX_COMMENT)


def check_target(target: ScoreTarget, path: str) -> None:
    """Raises InvalidError when it is not exactly one of a trace (with a span or without), a session and a run."""
    if target.span_id and not target.trace_id:
        raise InvalidError(f"{path}.span_id", "is without the trace_id of its trace")
    told = [field for field in ("trace_id", "session_id", "run_id") if getattr(target, field)]
    if len(told) != 1:
        raise InvalidError(path, f"has {' and '.join(told) or 'none'} of trace_id, session_id, run_id; it takes one")
    for field, size in (("trace_id", 16), ("span_id", 8)):
        check_bytes_id(getattr(target, field), f"{path}.{field}", size=size)
    for field in ("session_id", "run_id"):
        check_line(getattr(target, field), f"{path}.{field}", least=0, most=MAX_ID)


def is_id(text: str) -> bool:
    """Whether a config can have this id."""
    return 0 < len(text) <= MAX_ID and not _CONTROL.search(text)


def _check_value(score: ScoreRecorded, path: str) -> None:
    value = score.value
    match value.WhichOneof("kind"):
        case None:
            raise InvalidError(f"{path}.value", "is missing: one of numeric, categorical, boolean, text")
        case "numeric":
            check_finite(value.numeric, f"{path}.value.numeric")
        case "categorical":
            check_line(value.categorical, f"{path}.value.categorical", most=MAX_LABEL)
        case "text":
            check_text(value.text, f"{path}.value.text", most=MAX_TEXT)


def _keep_to_config(score: ScoreRecorded, config: ScoreConfigDefined | None, path: str) -> None:
    """Take the name and the category's value from the config, and refuse what it does not allow."""
    where, kind = f"{path}.config_id", str(score.value.WhichOneof("kind"))
    told = f"config {score.config_id!r}"
    if config is None:
        raise InvalidError(where, f"the project has no {told}")
    if config.archived:
        raise InvalidError(where, f"{told} is archived")
    if score.name and score.name != config.name:
        raise InvalidError(f"{path}.name", f"{told} is for scores called {config.name!r}")
    score.name = config.name
    if _TYPES[kind] != config.type:
        wanted = ScoreType.Name(config.type).removeprefix("SCORE_TYPE_").lower()
        raise InvalidError(f"{path}.value.{kind}", f"{told} takes {wanted} values")
    if kind == "numeric":
        number = score.value.numeric
        if config.HasField("min_value") and number < config.min_value:
            raise InvalidError(
                f"{path}.value.numeric", f"{number:g} is below {config.min_value:g}, the least of {told}"
            )
        if config.HasField("max_value") and number > config.max_value:
            raise InvalidError(f"{path}.value.numeric", f"{number:g} is above {config.max_value:g}, the most of {told}")
    if kind == "categorical":
        values = {category.label: category.value for category in config.categories}
        if score.value.categorical not in values:
            known = ", ".join(map(repr, values))
            raise InvalidError(
                f"{path}.value.categorical", f"{score.value.categorical!r} is none of the categories of {told}: {known}"
            )
        score.category_value = values[score.value.categorical]


def _check_metadata(metadata_json: str, path: str) -> None:
    if not metadata_json:
        return
    if (size := len(metadata_json.encode())) > MAX_METADATA_BYTES:
        raise InvalidError(path, f"has {size} bytes; at most {MAX_METADATA_BYTES} are taken")
    try:
        metadata: Any = orjson.loads(metadata_json)
    except orjson.JSONDecodeError as error:
        raise InvalidError(path, f"is no JSON: {error}") from None
    if not isinstance(metadata, dict):
        raise InvalidError(path, "is no JSON object")


MAX_CATEGORIES = 200


def kept_config(config: ScoreConfigDefined, event_id: str, path: str = "score_config_defined") -> ScoreConfigDefined:
    """The config as it goes into the log: with an id.

    Raises InvalidError naming the field below `path`.
    """
    kept = ScoreConfigDefined()
    kept.CopyFrom(config)
    kept.config_id = config.config_id or event_id
    check_line(kept.config_id, f"{path}.config_id", most=MAX_ID)
    check_line(kept.name, f"{path}.name", most=MAX_NAME)
    check_text(kept.description, f"{path}.description", least=0, most=MAX_COMMENT)
    if kept.type == SCORE_TYPE_UNSPECIFIED or kept.type not in ScoreType.values():
        raise InvalidError(f"{path}.type", "is none of numeric, categorical, boolean, text")
    _check_range(kept, path)
    _check_categories(kept, path)
    return kept


def _check_range(config: ScoreConfigDefined, path: str) -> None:
    bounds = [field for field in ("min_value", "max_value") if config.HasField(field)]
    for field in bounds:
        if config.type != SCORE_TYPE_NUMERIC:
            raise InvalidError(f"{path}.{field}", "only numeric scores have a range")
        check_finite(getattr(config, field), f"{path}.{field}")
    if len(bounds) == 2 and config.min_value >= config.max_value:
        raise InvalidError(f"{path}.max_value", f"{config.max_value:g} is not above min_value, {config.min_value:g}")


def _check_categories(config: ScoreConfigDefined, path: str) -> None:
    if config.type != SCORE_TYPE_CATEGORICAL:
        if config.categories:
            raise InvalidError(f"{path}.categories", "only categorical scores have categories")
        return
    if not 0 < len(config.categories) <= MAX_CATEGORIES:
        raise InvalidError(f"{path}.categories", f"are {len(config.categories)}; 1 to {MAX_CATEGORIES} are taken")
    seen: Counter[str] = Counter()
    for n, category in enumerate(config.categories):
        check_line(category.label, f"{path}.categories[{n}].label", most=MAX_LABEL)
        check_finite(category.value, f"{path}.categories[{n}].value")
        if seen[category.label]:
            raise InvalidError(f"{path}.categories[{n}].label", f"{category.label!r} is there twice")
        seen[category.label] += 1


FRESH_SECONDS = 5.0
"""A config that was changed, also by another gateway, is kept to after this time at the latest."""
_REMEMBERED = 10_000
_Key = tuple[str, str]  # project, config


class ScoreConfigs:
    """Answers with the configs of a project. One that is not known is asked for each time: it may just be defined."""

    def __init__(self, pool: asyncpg.Pool, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool, self._clock = pool, clock
        self._known: OrderedDict[_Key, tuple[ScoreConfigDefined, float]] = OrderedDict()

    async def find(self, project_id: str, config_ids: Collection[str]) -> Configs:
        """Those of these ids that there are.

        Raises UnavailableError when they can't be read now.
        """
        wanted = {config_id for config_id in config_ids if is_id(config_id)}
        if not wanted:
            return {}
        oldest = self._clock() - FRESH_SECONDS
        found = {
            config_id: known[0]
            for config_id in wanted
            if (known := self._known.get((project_id, config_id))) and known[1] > oldest
        }
        if missing := wanted - found.keys():
            found |= await self._read(project_id, missing)
        return found

    def forget(self, project_id: str, config_id: str) -> None:
        """Ask again: it was changed."""
        self._known.pop((project_id, config_id), None)

    async def _read(self, project_id: str, config_ids: Collection[str]) -> Configs:
        asked_at = self._clock()
        try:
            rows = await self._pool.fetch(_READ, project_id, list(config_ids))
        except DATABASE_ERRORS as error:
            raise UnavailableError(
                "score configs can't be read: the database does not answer", retry_seconds=5
            ) from error
        found = {row["config_id"]: config_of(row) for row in rows}
        for config_id, config in found.items():
            self._known[project_id, config_id] = config, asked_at
            self._known.move_to_end((project_id, config_id))
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found


_READ = f"SELECT {COLUMNS} FROM score_configs WHERE project_id = $1 AND config_id = ANY($2)"


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
    return _score_record(envelope, _key_of(kept.target), {"score_recorded": kept})


def retraction_record(event: Event, envelope: Envelope) -> Record:
    """Raises InvalidError naming the field that is wrong."""
    retracted = event.score_retracted
    check_retraction(retracted)
    return _score_record(envelope, _key_of(retracted.target), {"score_retracted": retracted})


def config_record(event: Event, envelope: Envelope) -> Record:
    """Raises InvalidError naming the field that is wrong."""
    return defined_record(kept_config(event.score_config_defined, envelope.event_id), envelope)


def defined_record(config: ScoreConfigDefined, envelope: Envelope) -> Record:
    """The record of a config that has been checked."""
    return _score_record(envelope, config.config_id.encode(), {"score_config_defined": config})


def _key_of(target: ScoreTarget) -> bytes:
    return target.trace_id or (target.session_id or target.run_id).encode()


def _score_record(envelope: Envelope, key: bytes, payload: Mapping[str, Any]) -> Record:
    value = envelope.event(**payload).SerializeToString()
    return Record(SCORES, f"{envelope.project_id}/".encode() + key, value)


SERVICE = pb.DESCRIPTOR.services_by_name["ScoreService"]
READABLE_SECONDS = 3.0
"""The longest a writer waits for the read model once the log has the config."""
_ANSWER_SECONDS = 0.2  # left of the caller's deadline to answer in


class Definitions:
    """Answers when the read model has the config; the same request again does no harm."""

    def __init__(
        self,
        settings: GatewaySettings,
        admission: Admission,
        appender: Appender,
        query: grpc.aio.Channel,
        configs: ScoreConfigs,
    ) -> None:
        self._settings, self._admission, self._appender, self._configs = settings, admission, appender, configs
        self._list: Any = query.unary_unary(
            f"/{SERVICE.full_name}/ListScoreConfigs",
            request_serializer=pb.ListScoreConfigsRequest.SerializeToString,
            response_deserializer=pb.ListScoreConfigsResponse.FromString,
        )

    async def define(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        """DefineScoreConfig, bytes to bytes."""

        async def answer() -> bytes:
            try:
                return (await self._define(requests, context)).SerializeToString()
            except OverQuotaError as refused:
                raise exhausted(refused) from None

        return await answering("DefineScoreConfig", context, answer)

    async def _define(self, requests: AsyncIterator[bytes], context: Context) -> pb.DefineScoreConfigResponse:
        project_id = await self._admission.admit(context)
        request = await the_request(requests)
        with self._admission.hold(project_id, len(request)):
            now = Timestamp()
            now.GetCurrentTime()
            envelope = Envelope(project_id, producer_of(context), new_event_id(), now, now)
            config = kept_config(_parse(request).config, envelope.event_id, "config")
            record = defined_record(config, envelope)
            positions = await append_all(self._appender, [record], context, most=self._settings.ack_seconds)
        token = to_token(positions)
        await self._wait(config.config_id, token, context)
        self._configs.forget(project_id, config.config_id)
        return pb.DefineScoreConfigResponse(config=config, position=token)

    async def _wait(self, config_id: str, token: str, context: Context) -> None:
        remaining = context.time_remaining()
        within = READABLE_SECONDS if remaining is None else min(READABLE_SECONDS, remaining - _ANSWER_SECONDS)
        wait = WaitFor(position=token, timeout_ms=max(1, int(within * 1000)))
        try:
            await self._list(
                pb.ListScoreConfigsRequest(wait_for=wait),
                metadata=proxy.metadata_of(context),
                timeout=max(0.001, within),
                wait_for_ready=True,
            )
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(
                f"the log has config {config_id} at {token}, but scores can't name it yet ({error.code().name})"
            ) from None


def handlers(definitions: Definitions, query: grpc.aio.Channel) -> grpc.GenericRpcHandler:
    """Every method of the service, bytes to bytes."""
    ours: dict[str, Any] = {"DefineScoreConfig": grpc.stream_unary_rpc_method_handler(definitions.define)}
    return grpc.method_handlers_generic_handler(
        SERVICE.full_name, {**proxy.forwarded(query, SERVICE, but=ours), **ours}
    )


def _parse(request: bytes) -> pb.DefineScoreConfigRequest:
    try:
        return pb.DefineScoreConfigRequest.FromString(request)
    except DecodeError as error:
        raise InvalidError("request", f"is no DefineScoreConfigRequest: {reason_of(error)}") from None
