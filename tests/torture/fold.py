"""What the read model must say of the log: a fold of its own, written from the promises and not from the projection.

A span is told once or several times. Later tellings (by event time: the end, else the start) beat earlier ones, and a
value is never beaten by silence. Equal tellings are one.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tests.torture.tables import Key
from tests.torture.wire import LogRecord, LogSpan

_DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Part = tuple[int, int, int, int]
"""When it was received (µs), partition, offset, index in the record."""


class Version(NamedTuple):
    """One telling, its clock brought within a day of when it was received."""

    part: Part
    start_us: int
    end_us: int | None
    told: LogSpan

    @property
    def event_us(self) -> int:
        """What orders tellings."""
        return self.start_us if self.end_us is None else self.end_us


def fold(records: Iterable[LogRecord]) -> dict[Key, dict[str, Any]]:
    """The columns that each span's row must have."""
    told: dict[Key, list[Version]] = defaultdict(list)
    for record in records:
        for index, span in enumerate(record.spans):
            version = _version((record.received_us, record.partition, record.offset, index), span)
            day = (_EPOCH + timedelta(microseconds=version.start_us)).date().isoformat()
            told[record.project, span.trace, span.span, day].append(version)
    return {key: _row(versions) for key, versions in told.items()}


def _version(part: Part, span: LogSpan) -> Version:
    received = part[0]
    start = span.start_ns // 1000
    if not _DAY_US <= start <= received + _DAY_US:
        start = received
    end = None
    if span.end_ns:
        end = span.end_ns // 1000
        end = max(start, end if end <= received + _DAY_US else received)
    return Version(part, start, end, span)


def _row(versions: Sequence[Version]) -> dict[str, Any]:
    distinct: dict[tuple[int, str], Version] = {}
    for version in sorted(versions):
        distinct.setdefault((version.event_us, version.told.bytes_digest), version)
    # Tellings of one span never share an event time in what the workloads tell, so digests need not be ordered.
    in_order = sorted(distinct.values(), key=lambda version: version.event_us)
    start = in_order[-1].start_us
    end = _latest(version.end_us for version in in_order)
    spent = _latest(_tokens(version.told.attributes) for version in in_order)
    return {
        "name": _latest(version.told.name or None for version in in_order) or "",
        "parent": _latest(version.told.parent or None for version in in_order) or "",
        "user_id": _latest(version.told.attributes.get("user.id") for version in in_order),
        "start_at_us": start,
        "end_at_us": None if end is None else max(start, end),
        "input_tokens": (spent or (0, 0))[0],
        "output_tokens": (spent or (0, 0))[1],
        "parts": sorted(version.part for version in in_order),
    }


def parts_of(row: Mapping[str, Any]) -> list[Part]:
    """The parts that a row names."""
    if numbers := row["parts"]:
        return [tuple(numbers[n : n + 4]) for n in range(0, len(numbers), 4)]
    return [(row["received_at_us"], row["block_partition"], row["block_offset"], row["block_index"])]


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns that a trace's row must have, from its spans' rows."""
    roots = sorted((row["start_at_us"], row["span"], row["name"], row["user_id"]) for row in rows if row["is_root"])
    users = [row["user_id"] for row in rows if row["user_id"] is not None]
    return {
        "span_count": len(rows),
        "start_at_us": min(row["start_at_us"] for row in rows),
        "end_at_us": max((row["end_at_us"] for row in rows if row["end_at_us"] is not None), default=None),
        "last_start_at_us": max(row["start_at_us"] for row in rows),
        "root": roots[0][1] if roots else None,
        "root_name": roots[0][2] if roots else None,
        "user_id": (roots[0][3] if roots else None) or min(users, default=None),
        "level": max(row["level"] for row in rows),
        "type_counts": [sum(row["type"] == n for row in rows) for n in range(1, 11)],
        "level_counts": [sum(row["level"] == n for row in rows) for n in range(1, 5)],
        **{
            column: sum(row[column] for row in rows)
            for column in ("input_tokens", "output_tokens", "total_tokens", "cost_picos")
        },
    }


def _tokens(attributes: Mapping[str, str | int]) -> tuple[int, int] | None:
    if ours := attributes.get("lodestream.observation.usage_details"):
        details = json.loads(str(ours))
        return int(details.get("input", 0)), int(details.get("output", 0))
    counts = [attributes.get(f"gen_ai.usage.{which}_tokens") for which in ("input", "output")]
    if counts == [None, None]:
        return None
    return int(counts[0] or 0), int(counts[1] or 0)


def _latest(values: Iterable[Any]) -> Any:
    """The last that is not None."""
    return next((value for value in reversed(list(values)) if value is not None), None)
