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
AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON document.")]
Author = Annotated[
    str, typer.Option(envvar=["LODESTREAM_AUTHOR", "USER"], metavar="NAME", help="Who makes the change.")
]
_TIMEOUT = timedelta(seconds=30)
_WAIT = timedelta(seconds=5)
_MICROSECOND = timedelta(microseconds=1)
_VERSIONED = re.compile(r"(.+)@(\d{1,15})", re.DOTALL)


def with_options(**groups: Callable[..., Any]) -> Callable[[Command], Command]:
    """Decorate a command so that some of its arguments come from groups of options.

    A group is a function. Its keyword-only parameters are options, which follow the command's own; what it returns is
    the command's argument of that name. A context manager is entered while the command runs.
    """

    def decorate(command: Command) -> Command:
        group_options = {name: inspect.signature(group).parameters for name, group in groups.items()}
        command_options = [each for each in inspect.signature(command).parameters.values() if each.name not in groups]

        @functools.wraps(command)
        def run(**values: Any) -> None:
            with ExitStack() as stack:
                arguments = {}
                for name, group in groups.items():
                    value = group(**{option: values.pop(option) for option in group_options[name]})
                    arguments[name] = stack.enter_context(value) if isinstance(value, AbstractContextManager) else value
                command(**values, **arguments)

        # typer builds a command line from the signature of its function.
        parameters = [*command_options, *(each for options in group_options.values() for each in options.values())]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def duration_option(name: str, help_text: str, default: str | bool = True) -> Any:
    """An option for a duration. Its default is None, as typer would parse any other; `default` is what help shows."""
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
        typer.Option(
            envvar="LODESTREAM_ENDPOINT",
            metavar="HOST:PORT",
            help="Address of the gateway; with https:// in front it is called over TLS.",
        ),
    ] = None,
    public_key: Annotated[
        str | None, typer.Option(envvar="LODESTREAM_PUBLIC_KEY", metavar="KEY", help="Public part of the API key.")
    ] = None,
    secret_key: Annotated[
        str | None,
        typer.Option(
            envvar="LODESTREAM_SECRET_KEY",
            metavar="KEY",
            help="Secret part of the API key; by default that of a stack started with `make up`.",
        ),
    ] = None,
    timeout: Annotated[timedelta | None, duration_option("--timeout", "How long to wait for an answer.", "30s")] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Print which gateway and key are used.")] = False,
) -> AbstractContextManager[Gateway]:
    """The gateway and a key for it: options, then environment, then a local stack, then the default address."""
    stack = local_stack.find(Path.cwd()) if not (endpoint and secret_key) else None
    target = choose_target(endpoint, public_key, secret_key, stack.environment if stack else {})
    if verbose:
        console.remark(f"using {target.endpoint} with key {target.public_key or '(secret only)'} from {target.origin}")
    return connected(target, (timeout or _TIMEOUT).total_seconds())


def wait_for(
    *,
    wait_position: Annotated[
        str,
        typer.Option(
            "--wait-for", metavar="POSITION", help="Wait until everything written up to this position can be read."
        ),
    ] = "",
    wait_timeout: Annotated[
        timedelta | None, duration_option("--wait-timeout", "How long --wait-for waits.", "5s")
    ] = None,
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
    since: Annotated[
        timedelta | None, duration_option("--since", "Started within this time, for example 15m, 2h or 7d.")
    ] = None,
    start_from: Annotated[datetime | None, instant_option("--from", "Started at or after this time.")] = None,
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
    """Levels, from harmless to worst."""

    DEBUG = "debug"
    DEFAULT = "default"
    WARNING = "warning"
    ERROR = "error"


def trace_filter(
    *,
    name: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="With this name; repeat to match any of several.")
    ] = None,
    contains: Annotated[str, typer.Option(metavar="TEXT", help="With this text in the name, ignoring case.")] = "",
    user: Annotated[
        list[str] | None, typer.Option(metavar="USER", help="Of this user; repeat to match any of several.")
    ] = None,
    session: Annotated[
        list[str] | None, typer.Option(metavar="SESSION", help="Of this session; repeat to match any of several.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="With this tag; repeat to require all of several.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="ENV", help="In this environment; repeat to match any of several.")
    ] = None,
    release: Annotated[
        list[str] | None, typer.Option(metavar="RELEASE", help="Of this release; repeat to match any of several.")
    ] = None,
    level: Annotated[LeastLevel | None, typer.Option(help="With a span at this level or worse.")] = None,
    has_error: Annotated[bool | None, typer.Option("--has-error/--no-error", help="With errors, or without.")] = None,
    min_latency: Annotated[
        timedelta | None, duration_option("--min-latency", "That took at least this long, for example 2s.")
    ] = None,
    max_latency: Annotated[timedelta | None, duration_option("--max-latency", "That took at most this long.")] = None,
    min_cost: Annotated[float | None, typer.Option(metavar="USD", min=0, help="That cost at least this much.")] = None,
    max_cost: Annotated[float | None, typer.Option(metavar="USD", min=0, help="That cost at most this much.")] = None,
    score: Annotated[
        list[ScoreCondition] | None,
        typer.Option(
            parser=typed(score_condition),
            metavar="SCORE",
            help="With this score: helpful, helpful>=0.5, tone=kind; repeat to require all of several.",
        ),
    ] = None,
    min_tokens: Annotated[int | None, typer.Option(metavar="N", min=0, help="With at least this many tokens.")] = None,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", min=0, help="With at most this many tokens.")] = None,
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
    dataset: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="Dataset; by default its latest version.")],
    as_of: Annotated[datetime | None, instant_option("--as-of", "As of this time.")] = None,
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
