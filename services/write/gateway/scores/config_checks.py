"""Which score configs can be taken. Pure."""

from collections import Counter

from lodestream_proto.v1.score_event_pb2 import (
    SCORE_TYPE_CATEGORICAL,
    SCORE_TYPE_NUMERIC,
    SCORE_TYPE_UNSPECIFIED,
    ScoreConfigDefined,
    ScoreType,
)

from services.write.gateway.scores.checks import (
    MAX_COMMENT,
    MAX_ID,
    MAX_LABEL,
    MAX_NAME,
)
from shared.rules.texts import check_finite, check_line, check_text
from shared.runtime.refusal import InvalidError

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
