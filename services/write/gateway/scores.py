"""Scores and their configs: which can be taken, as which records, and the RPC that defines configs.

Lengths are in characters, and such that every key of the read model's indexes has room for them.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import asyncpg
import grpc
import orjson
from lodestream_proto.v1 import scores_pb2 as pb
from lodestream_proto.v1.event_pb2 import Event
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
from lodestream_proto.v1.scores_pb2_grpc import ScoreServiceStub

from services.write.gateway.proxy import service_handler
from services.write.gateway.records import Envelope
from services.write.gateway.write_rpc import WriteCall, WriteRpcs
from shared.event_log.append import Record
from shared.event_log.topics import SCORES
from shared.rules.texts import check_bytes_id, check_finite, check_line, check_text
from shared.runtime.lru_cache import LruCache
from shared.runtime.refusal import InvalidError
from shared.storage.postgres import reading
from shared.storage.score_configs import COLUMNS, config_of

MAX_ID, MAX_NAME, MAX_LABEL, MAX_TEXT = 255, 200, 200, 500
MAX_COMMENT, MAX_METADATA_BYTES = 16_384, 65_536
MAX_CATEGORIES = 200
SERVICE = pb.DESCRIPTOR.services_by_name["ScoreService"]
Configs = Mapping[str, ScoreConfigDefined]
"""The configs that there are, by their ids."""
_TYPES = {
    "numeric": SCORE_TYPE_NUMERIC,
    "categorical": SCORE_TYPE_CATEGORICAL,
    "boolean": SCORE_TYPE_BOOLEAN,
    "text": SCORE_TYPE_TEXT,
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
FRESH_SECONDS = 5.0
"""A config that was changed, also through another gateway, holds after this time at the latest."""
_REMEMBERED = 10_000
_READABLE_SECONDS = 3.0
"""The longest a writer waits for the read model once the log has the config."""
_READ_CONFIGS = f"SELECT {COLUMNS} FROM score_configs WHERE project_id = $1 AND config_id = ANY($2)"


def kept_score(score: ScoreRecorded, event_id: str, configs: Configs, path: str = "score_recorded") -> ScoreRecorded:
    """Return a score as it goes into the log: with an id, a name, a source, and the value of its category.

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
        _apply_config(kept, configs.get(kept.config_id), path)
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
    """Raise InvalidError when no score can be withdrawn by this retraction."""
    check_line(retracted.score_id, f"{path}.score_id", most=MAX_ID)
    check_target(retracted.target, f"{path}.target")
    check_text(retracted.reason, f"{path}.reason", least=0, most=MAX_COMMENT)


def check_target(target: ScoreTarget, path: str) -> None:
    """Raise InvalidError when a target is not exactly one of a trace (with a span or without), a session and a run."""
    if target.span_id and not target.trace_id:
        raise InvalidError(f"{path}.span_id", "is without the trace_id of its trace")
    given = [field for field in ("trace_id", "session_id", "run_id") if getattr(target, field)]
    if len(given) != 1:
        raise InvalidError(path, f"has {' and '.join(given) or 'none'} of trace_id, session_id, run_id; it takes one")
    for field, size in (("trace_id", 16), ("span_id", 8)):
        check_bytes_id(getattr(target, field), f"{path}.{field}", size=size)
    for field in ("session_id", "run_id"):
        check_line(getattr(target, field), f"{path}.{field}", least=0, most=MAX_ID)


def is_id(text: str) -> bool:
    """Return whether a config can have this id."""
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


def _apply_config(score: ScoreRecorded, config: ScoreConfigDefined | None, path: str) -> None:
    """Take the name and the category's value from the config, and refuse what it does not allow."""
    where, kind = f"{path}.config_id", str(score.value.WhichOneof("kind"))
    name = f"config {score.config_id!r}"
    if config is None:
        raise InvalidError(where, f"the project has no {name}")
    if config.archived:
        raise InvalidError(where, f"{name} is archived")
    if score.name and score.name != config.name:
        raise InvalidError(f"{path}.name", f"{name} is for scores called {config.name!r}")
    score.name = config.name
    if _TYPES[kind] != config.type:
        wanted = ScoreType.Name(config.type).removeprefix("SCORE_TYPE_").lower()
        raise InvalidError(f"{path}.value.{kind}", f"{name} takes {wanted} values")
    if kind == "numeric":
        number = score.value.numeric
        if config.HasField("min_value") and number < config.min_value:
            raise InvalidError(
                f"{path}.value.numeric", f"{number:g} is below {config.min_value:g}, the least of {name}"
            )
        if config.HasField("max_value") and number > config.max_value:
            raise InvalidError(f"{path}.value.numeric", f"{number:g} is above {config.max_value:g}, the most of {name}")
    if kind == "categorical":
        values = {category.label: category.value for category in config.categories}
        if score.value.categorical not in values:
            known = ", ".join(map(repr, values))
            raise InvalidError(
                f"{path}.value.categorical", f"{score.value.categorical!r} is none of the categories of {name}: {known}"
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


def kept_config(config: ScoreConfigDefined, event_id: str, path: str = "score_config_defined") -> ScoreConfigDefined:
    """Return a config as it goes into the log: with an id.

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


class ConfigLookup:
    """Finds the score configs of a project, and remembers them for seconds, so that a score costs no query.

    One that does not exist is looked up each time: it may just have been defined.
    """

    def __init__(self, pool: asyncpg.Pool, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is in seconds."""
        self._pool, self._clock = pool, clock
        self._cached: LruCache[tuple[str, str], tuple[ScoreConfigDefined, float]] = LruCache(_REMEMBERED)

    async def find(self, project_id: str, config_ids: Collection[str]) -> Configs:
        """Return those of these configs that there are.

        Raises UnavailableError when they can't be read now.
        """
        wanted = {config_id for config_id in config_ids if is_id(config_id)}
        if not wanted:
            return {}
        oldest = self._clock() - FRESH_SECONDS
        configs = {
            config_id: cached[0]
            for config_id in wanted
            if (cached := self._cached.peek((project_id, config_id))) and cached[1] > oldest
        }
        if missing := wanted - configs.keys():
            configs |= await self._read(project_id, missing)
        return configs

    def forget(self, project_id: str, config_id: str) -> None:
        """Look a config up again when it is next referred to: it was changed."""
        self._cached.pop((project_id, config_id))

    async def _read(self, project_id: str, config_ids: Collection[str]) -> Configs:
        read_at = self._clock()
        with reading("score configs"):
            rows = await self._pool.fetch(_READ_CONFIGS, project_id, list(config_ids))
        configs = {row["config_id"]: config_of(row) for row in rows}
        for config_id, config in configs.items():
            self._cached[project_id, config_id] = config, read_at
        return configs


def config_ids_in(events: Iterable[Any]) -> set[str]:
    """Return the ids of the configs that these events' scores refer to."""
    return {
        event.score_recorded.config_id
        for event in events
        if isinstance(event, Event)
        and event.WhichOneof("payload") == "score_recorded"
        and event.score_recorded.config_id
    }


def score_record(event: Event, envelope: Envelope, configs: Configs) -> Record:
    """Return the record of a `score_recorded`; raises InvalidError naming the field that is wrong."""
    score = kept_score(event.score_recorded, envelope.event_id, configs)
    return envelope.record(SCORES, _subject(score.target), score_recorded=score)


def retraction_record(event: Event, envelope: Envelope) -> Record:
    """Return the record of a `score_retracted`; raises InvalidError naming the field that is wrong."""
    retracted = event.score_retracted
    check_retraction(retracted)
    return envelope.record(SCORES, _subject(retracted.target), score_retracted=retracted)


def config_record(event: Event, envelope: Envelope) -> Record:
    """Return the record of a `score_config_defined`; raises InvalidError naming the field that is wrong."""
    return _config_record(kept_config(event.score_config_defined, envelope.event_id), envelope)


def _config_record(config: ScoreConfigDefined, envelope: Envelope) -> Record:
    return envelope.record(SCORES, config.config_id.encode(), score_config_defined=config)


def _subject(target: ScoreTarget) -> bytes:
    return target.trace_id or (target.session_id or target.run_id).encode()


class ScoreService:
    """Defines configs, and forwards the reads; scores themselves are taken by IngestService."""

    def __init__(self, rpcs: WriteRpcs, query: grpc.aio.Channel, configs: ConfigLookup) -> None:
        self._rpcs, self._channel, self._configs = rpcs, query, configs
        self._query: Any = ScoreServiceStub(query)

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return every method of the service, from bytes to bytes."""
        return service_handler(
            self._channel, SERVICE, {"DefineScoreConfig": self._rpcs.unary("DefineScoreConfig", self._define)}
        )

    async def _define(self, call: WriteCall) -> pb.DefineScoreConfigResponse:
        """Define a score config, or change it; the same request again does no harm.

        Args:
            call: A DefineScoreConfigRequest.

        Returns:
            The config with its id, once scores may refer to it, and its position.

        Raises:
            InvalidError: A field of the config is wrong; the refusal names it.
            UnavailableError: The log does not take it, or it is in the log and can't be read yet.
        """
        with call.hold_room():
            envelope = call.envelope()
            config = kept_config(call.parse(pb.DefineScoreConfigRequest).config, envelope.event_id, "config")
            position = await call.append([_config_record(config, envelope)])
        await call.read_back(
            self._query.ListScoreConfigs,
            pb.ListScoreConfigsRequest(),
            position,
            what=f"config {config.config_id}",
            pending="but scores can't name it yet",
            hint="",
            seconds=_READABLE_SECONDS,
        )
        self._configs.forget(call.project_id, config.config_id)
        return pb.DefineScoreConfigResponse(config=config, position=position)
