"""What the scores read model must say of the log: a fold by docs/decisions/0013, and SQL of our own."""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg

from tests.torture.contract import Content, LogEvent, readable
from tests.torture.model import Row, Table, Tables, fetch_table, hex_of, us

_AHEAD_US = 5 * 60 * 1_000_000
"""A score's time is at most so much later than its event was received."""
_NUMERIC, _CATEGORICAL, _BOOLEAN, _TEXT = 1, 2, 3, 4  # lodestream_proto.v1.ScoreType


def expected_scores(events: Iterable[LogEvent]) -> Tables:
    """History: the first telling of each event. What holds: the last event of each score id, withdrawn or not."""
    history, configs = Table(), Table()
    tellings = sorted(readable(list(events)), key=lambda event: (_time_us(event), event.payload))
    for event in tellings:
        if event.kind == "score_config_defined":
            configs.setdefault((event.project, event.content["config_id"], uuid.UUID(event.event_id)), _config(event))
        else:
            history.setdefault((event.project, event.content["score_id"], uuid.UUID(event.event_id)), _score(event))
    return {
        "scores.score_history": history,
        "scores.scores": _last(history, "scored_at_us"),
        "scores.score_config_history": configs,
        "scores.score_configs": _last(configs, "defined_at_us"),
    }


async def read_scores(connection: asyncpg.Connection, projects: Sequence[str]) -> Tables:
    """What the tables, and the view of configs, hold now."""
    tables = Tables()
    for name in ("score_history", "scores"):
        key = ("project_id", "score_id") + (("event_id",) if name == "score_history" else ())
        query = f"SELECT {_SCORE_COLUMNS} FROM scores.{name} WHERE project_id = ANY ($1)"
        tables[f"scores.{name}"] = await fetch_table(connection, query, projects, *key)
    for name in ("score_config_history", "score_configs"):
        key = ("project_id", "config_id") + (("event_id",) if name == "score_config_history" else ())
        query = f"SELECT {_CONFIG_COLUMNS} FROM scores.{name} WHERE project_id = ANY ($1)"
        tables[f"scores.{name}"] = await fetch_table(connection, query, projects, *key)
    return tables


def _last(history: Table, time: str) -> Table:
    """The last event by (its time, its id) of each id."""
    last = Table()
    for (project, subject, event_id), row in sorted(history.items(), key=lambda item: (item[1][time], item[0][2])):
        last[project, subject] = {"event_id": event_id, **row}
    return last


def _time_us(event: LogEvent) -> int:
    received = event.appended_us if event.received_us is None else event.received_us
    return received if event.occurred_us is None else min(event.occurred_us, received + _AHEAD_US)


def _score(event: LogEvent) -> Row:
    content, target = event.content, event.content["target"]
    row: dict[str, Any] = {
        "scored_at_us": _time_us(event),
        "retracted": event.kind == "score_retracted",
        **{name: target.get(name) for name in ("trace_id", "span_id", "session_id", "run_id")},
    }
    if event.kind == "score_retracted":
        return row | dict.fromkeys(_SAID) | {"retraction_reason": content.get("reason", "")}
    kind, number, label = _value(content)
    return row | {
        "name": content["name"],
        "type": kind,
        "number": number,
        "label": label,
        **{name: content.get(name, "") for name in _TEXTS},
        "source": content.get("source", 0),
        "metadata": content.get("metadata_json", ""),
        "retraction_reason": None,
    }


def _value(content: Content) -> tuple[int, float | None, str | None]:
    ((kind, value),) = content["value"].items()
    match kind:
        case "numeric":
            return _NUMERIC, value, None
        case "boolean":
            return _BOOLEAN, float(value), "true" if value else "false"
        case "categorical":
            return _CATEGORICAL, content.get("category_value"), value
    return _TEXT, None, value


def _config(event: LogEvent) -> Row:
    content = event.content
    categories = content.get("categories", [])
    return {
        "defined_at_us": _time_us(event),
        "name": content["name"],
        "type": content["type"],
        "min_value": content.get("min_value"),
        "max_value": content.get("max_value"),
        "labels": [each["label"] for each in categories],
        "label_values": [each.get("value", 0.0) for each in categories],
        "description": content.get("description", ""),
        "archived": content.get("archived", False),
    }


_TEXTS = ("comment", "config_id", "author", "evaluator_version", "environment")
_SAID = ("name", "type", "number", "label", *_TEXTS, "source", "metadata")
_SCORE_COLUMNS = ", ".join((
    "project_id", "score_id", "event_id", us("scored_at"), "retracted", hex_of("trace_id"), hex_of("span_id"),
    "session_id", "run_id", *_SAID, "retraction_reason",
))  # fmt: skip
_CONFIG_COLUMNS = ", ".join((
    "project_id", "config_id", "event_id", us("defined_at"), "name", "type", "min_value", "max_value", "labels",
    "label_values", "description", "archived",
))  # fmt: skip
