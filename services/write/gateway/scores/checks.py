"""Which scores and retractions can be taken, and how they are kept. Pure: the configs they name are given.

Lengths are in characters, and such that every key of the read model's indexes has room for them.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson
from lodestream_proto.v1.score_event_pb2 import (
    SCORE_SOURCE_API,
    SCORE_TYPE_BOOLEAN,
    SCORE_TYPE_CATEGORICAL,
    SCORE_TYPE_NUMERIC,
    SCORE_TYPE_TEXT,
    ScoreConfigDefined,
    ScoreRecorded,
    ScoreRetracted,
    ScoreSource,
    ScoreTarget,
    ScoreType,
)

from shared.rules.texts import check_bytes_id, check_finite, check_line, check_text
from shared.runtime.refusal import InvalidError

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
