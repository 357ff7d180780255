"""The options that say which traces are meant, and when they started."""

import enum
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.query_pb2 import ScoreCondition, TraceFilter
from lodestream_proto.v1.trace_pb2 import Level

from services.edge.cli.arguments import score_condition, typed
from services.edge.cli.options import duration_option, instant_option

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """[start_from, start_before); None: open."""

    start_from: Timestamp | None
    start_before: Timestamp | None


def time_range(
    *,
    since: Annotated[timedelta | None, duration_option("--since", "Started within the last 15m, 2h, 7d …")] = None,
    start_from: Annotated[datetime | None, instant_option("--from", "Started at this time or later.")] = None,
    start_before: Annotated[datetime | None, instant_option("--to", "Started before this time.")] = None,
) -> TimeRange:
    """When traces started."""
    if since is not None and start_from is not None:
        raise typer.BadParameter("give either --since or --from", param_hint="--since")
    if since is not None:
        start_from = datetime.now(UTC) - since
    if start_from is not None and start_before is not None and start_from >= start_before:
        raise typer.BadParameter("must be later than --from", param_hint="--to")
    return TimeRange(_timestamp(start_from), _timestamp(start_before))


class LeastLevel(enum.StrEnum):
    """Levels, from the least to the worst."""

    DEBUG = "debug"
    DEFAULT = "default"
    WARNING = "warning"
    ERROR = "error"


def trace_filter(
    *,
    name: Annotated[list[str] | None, typer.Option(help="With this name. Several: any of them.")] = None,
    contains: Annotated[str, typer.Option(metavar="TEXT", help="With this text in the name, in any case.")] = "",
    user: Annotated[list[str] | None, typer.Option(help="Of this user. Several: any of them.")] = None,
    session: Annotated[list[str] | None, typer.Option(help="Of this session. Several: any of them.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="With this tag. Several: all of them.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="In this environment. Several: any of them.")] = None,
    release: Annotated[list[str] | None, typer.Option(help="Of this release. Several: any of them.")] = None,
    level: Annotated[LeastLevel | None, typer.Option(help="With a span of this level or a worse one.")] = None,
    has_error: Annotated[bool | None, typer.Option("--has-error/--no-error", help="With or without one.")] = None,
    min_latency: Annotated[timedelta | None, duration_option("--min-latency", "That took at least 2s, …")] = None,
    max_latency: Annotated[timedelta | None, duration_option("--max-latency", "That took at most 2s, …")] = None,
    min_cost: Annotated[float | None, typer.Option(metavar="USD", min=0, help="That cost at least this.")] = None,
    max_cost: Annotated[float | None, typer.Option(metavar="USD", min=0, help="That cost at most this.")] = None,
    score: Annotated[
        list[ScoreCondition] | None,
        typer.Option(
            parser=typed(score_condition),
            metavar="SCORE",
            help="With a score: helpful, helpful>=0.5, tone=kind. Several: all of them.",
        ),
    ] = None,
    min_tokens: Annotated[int | None, typer.Option(metavar="N", min=0, help="With at least so many tokens.")] = None,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", min=0, help="With at most so many tokens.")] = None,
) -> TraceFilter:
    """Which traces."""
    return TraceFilter(
        names=name,
        name_contains=contains,
        user_ids=user,
        session_ids=session,
        tags=tag,
        environments=env,
        releases=release,
        min_level=Level.Value(f"LEVEL_{level.name if level else 'UNSPECIFIED'}"),
        has_error=has_error,
        min_latency_us=None if min_latency is None else min_latency // _MICROSECOND,
        max_latency_us=None if max_latency is None else max_latency // _MICROSECOND,
        min_cost_usd=min_cost,
        max_cost_usd=max_cost,
        min_tokens=min_tokens,
        max_tokens=max_tokens,
        scores=score,
    )


def _timestamp(instant: datetime | None) -> Timestamp | None:
    if instant is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp
