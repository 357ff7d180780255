"""Options that several commands share, written once."""

import enum
import functools
import inspect
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.datasets_pb2 import DatasetSelector
from lodestream_proto.v1.query_pb2 import ScoreCondition, TraceFilter, WaitFor
from lodestream_proto.v1.trace_pb2 import Level

from services.edge.cli import arguments, console, local_stack
from services.edge.cli.arguments import score_condition, typed
from services.edge.cli.connection import Gateway, choose_target, connected

Command = Callable[..., None]
AsJson = Annotated[bool, typer.Option("--json", help="A JSON document instead of a picture.")]
Author = Annotated[str, typer.Option(envvar="LODESTREAM_AUTHOR", metavar="NAME", help="Who is said to have done it.")]
_TIMEOUT = timedelta(seconds=30)
_WAIT = timedelta(seconds=5)
_MICROSECOND = timedelta(microseconds=1)
_VERSIONED = re.compile(r"(.+)@(\d{1,15})", re.DOTALL)


def with_options(**groups: Callable[..., Any]) -> Callable[[Command], Command]:
    """Decorates a command: each named argument comes from its group, whose options follow the command's own."""

    def decorate(command: Command) -> Command:
        own = [each for name, each in inspect.signature(command).parameters.items() if name not in groups]
        options = {group: list(inspect.signature(build).parameters.values()) for group, build in groups.items()}
        parameters = [*own, *(each for group in options.values() for each in group)]

        @functools.wraps(command)
        def complete(**given: Any) -> None:
            with ExitStack() as stack:
                made = {}
                for group, build in groups.items():
                    value = build(**{each.name: given.pop(each.name) for each in options[group]})
                    entered = isinstance(value, AbstractContextManager)
                    made[group] = stack.enter_context(value) if entered else value
                command(**given, **made)

        # What typer reads the options from.
        complete.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        )
        complete.__annotations__ = {each.name: each.annotation for each in parameters}
        return complete

    return decorate


def duration_option(name: str, help_text: str, default: str | bool = True) -> Any:
    """An option for a duration. Its default is None, as typer would parse any other; `default` is what help says."""
    return typer.Option(
        name,
        parser=arguments.typed(arguments.duration),
        metavar="DURATION",
        help=help_text,
        show_default=default,
    )


def instant_option(name: str, help_text: str) -> Any:
    """An option for a point in time."""
    return typer.Option(name, parser=arguments.typed(arguments.instant), metavar="TIME", help=help_text)


def gateway(
    *,
    endpoint: Annotated[
        str | None,
        typer.Option(envvar="LODESTREAM_ENDPOINT", metavar="HOST:PORT", help="The gateway; https:// in front for TLS."),
    ] = None,
    public_key: Annotated[str | None, typer.Option(envvar="LODESTREAM_PUBLIC_KEY", metavar="KEY")] = None,
    secret_key: Annotated[
        str | None,
        typer.Option(
            envvar="LODESTREAM_SECRET_KEY",
            metavar="KEY",
            help="Without one, that of a stack which `make up` started.",
        ),
    ] = None,
    timeout: Annotated[timedelta | None, duration_option("--timeout", "How long an answer may take.", "30s")] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say which gateway and key are used.")] = False,
) -> AbstractContextManager[Gateway]:
    """The gateway and a key for it: options, then environment, then a local stack, then the default address."""
    stack = local_stack.find(Path.cwd()) if not (endpoint and secret_key) else None
    target = choose_target(endpoint, public_key, secret_key, stack.environment if stack else {})
    if verbose:
        console.remark(f"asking {target.endpoint}, key {target.public_key or '(secret only)'} from {target.origin}")
    return connected(target, (timeout or _TIMEOUT).total_seconds())


def wait_for(
    *,
    wait_position: Annotated[
        str,
        typer.Option("--wait-for", metavar="POSITION", help="Answer only with all that was written at this position."),
    ] = "",
    wait_timeout: Annotated[timedelta | None, duration_option("--wait-timeout", "For --wait-for.", "5s")] = None,
) -> WaitFor | None:
    """Read your writes."""
    if not wait_position:
        return None
    return WaitFor(position=wait_position, timeout_ms=(wait_timeout or _WAIT) // timedelta(milliseconds=1))


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


def dataset_selector(
    *,
    dataset: Annotated[str, typer.Argument(metavar="NAME[@VERSION]")],
    as_of: Annotated[datetime | None, instant_option("--as-of", "As it was at this time.")] = None,
) -> DatasetSelector:
    """A dataset at a version, at an instant, or as it is."""
    return parse_dataset(dataset, as_of)


def parse_dataset(text: str, as_of: datetime | None = None) -> DatasetSelector:
    """`questions`, `questions@12`. Raises typer.BadParameter."""
    match = _VERSIONED.fullmatch(text)
    if not text:
        raise typer.BadParameter("must not be empty", param_hint="NAME")
    if match and as_of is not None:
        raise typer.BadParameter("give either @VERSION or --as-of", param_hint="--as-of")
    if match:
        return DatasetSelector(name=match[1], version=int(match[2]))
    stamp = None
    if as_of is not None:
        stamp = Timestamp()
        stamp.FromDatetime(as_of)
    return DatasetSelector(name=text, as_of=stamp)
