"""`lodestream scores`: give, retract and list scores, and define the rules that they keep to."""

import enum
import re
import uuid
from datetime import UTC, datetime
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1 import score_event_pb2 as events
from lodestream_proto.v1 import scores_pb2 as pb
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.ingest_pb2 import EVENT_OUTCOME_ACCEPTED, RecordRequest
from lodestream_proto.v1.query_pb2 import WaitFor
from lodestream_proto.v1.score_event_pb2 import ScoreTarget, ScoreValue
from rich.text import Text

from services.edge.cli import arguments, console, options, paging
from services.edge.cli.connection import Gateway
from services.edge.cli.errors import CliError, ExitCode
from services.edge.cli.options import AsJson, TimeRange, with_options
from services.edge.cli.paging import Pages
from services.edge.cli.render.json_output import document
from services.edge.cli.render.scores import config_table, group_table, score_table
from services.edge.cli.render.tables import footer, list_footer
from services.edge.cli.render.text import escape_control

_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_TRUTHS = {"true": True, "false": False}
app = typer.Typer(no_args_is_help=True)
Names = Annotated[
    list[str] | None, typer.Option("--name", metavar="NAME", help="With this name; repeat to match any of several.")
]
Traces = Annotated[
    list[str] | None,
    typer.Option("--trace", parser=arguments.typed(arguments.full_trace_id), metavar="ID", help="Given to this trace."),
]
configs_app = typer.Typer(no_args_is_help=True)


def score_target(
    *,
    trace: Annotated[
        str | None,
        typer.Option(parser=arguments.typed(arguments.full_trace_id), metavar="ID", help="Trace that is scored."),
    ] = None,
    span: Annotated[str, typer.Option(metavar="ID", help="Span of the trace that is scored; requires --trace.")] = "",
    session: Annotated[str, typer.Option(metavar="ID", help="Session that is scored.")] = "",
    run: Annotated[str, typer.Option(metavar="ID", help="Experiment run that is scored.")] = "",
) -> ScoreTarget:
    """The one thing that is scored. Raises typer.BadParameter for none or several."""
    if sum(map(bool, (trace, session, run))) != 1:
        raise typer.BadParameter("give one of --trace, --session and --run", param_hint="--trace")
    if span and not (trace and _SPAN_ID.fullmatch(span)):
        raise typer.BadParameter("is 16 hex digits, and needs --trace", param_hint="--span")
    return ScoreTarget(trace_id=bytes.fromhex(trace or ""), span_id=bytes.fromhex(span), session_id=session, run_id=run)


def score_value(text: str, kind: str) -> ScoreValue:
    """Parse a score's value: without a type it is a number where it can be, then true or false, else a category.

    Raises typer.BadParameter.
    """
    number = _number(text)
    match kind or _kind_of(text, number):
        case "numeric" if number is not None:
            return ScoreValue(numeric=number)
        case "boolean" if text.lower() in _TRUTHS:
            return ScoreValue(boolean=_TRUTHS[text.lower()])
        case "categorical":
            return ScoreValue(categorical=text)
        case "text":
            return ScoreValue(text=text)
    raise typer.BadParameter(f"{text!r} is not {kind}", param_hint="VALUE")


def _kind_of(text: str, number: float | None) -> str:
    if number is not None:
        return "numeric"
    return "boolean" if text.lower() in _TRUTHS else "categorical"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


class Kind(enum.StrEnum):
    """The types of scores."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    BOOLEAN = "boolean"
    TEXT = "text"


class Source(enum.StrEnum):
    """Where a score comes from."""

    API = "api"
    EVALUATOR = "evaluator"
    ANNOTATION = "annotation"


class Grouping(enum.StrEnum):
    """What scores are grouped by, beside their names."""

    DAY = "day"
    HOUR = "hour"
    PROMPT_VERSION = "prompt"
    RELEASE = "release"


@app.command("add")
@with_options(target=score_target, gateway=options.gateway)
def add_score(
    *,
    gateway: Gateway,
    target: events.ScoreTarget,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="A number, true or false, or a category.")],
    kind: Annotated[Kind | None, typer.Option("--type", help="Type of the value, where it is ambiguous.")] = None,
    comment: Annotated[str, typer.Option(metavar="TEXT", help="Why the score is given.")] = "",
    config: Annotated[str, typer.Option(metavar="ID", help="Score config that the value must satisfy.")] = "",
    score_id: Annotated[
        str, typer.Option("--id", metavar="ID", help="Id of the score; an id given again replaces the earlier score.")
    ] = "",
    author: Annotated[
        str, typer.Option(envvar=["LODESTREAM_AUTHOR", "USER"], metavar="NAME", help="Who gives the score.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Give a score to a trace, a span, a session or an experiment run.

    \b
    Examples:
      lodestream scores add helpful 0.8 --trace 0af7651916cd43dd8448eb211c80319c --comment "polite"
      lodestream scores add resolved true --session chat-42
      lodestream scores add tone kind --trace 0af7651916cd43dd8448eb211c80319c --span b7ad6b7169203331
    """  # noqa: D301
    score_id = score_id or str(uuid.uuid4())
    recorded = events.ScoreRecorded(
        score_id=score_id, target=target, name=name, value=score_value(value, kind or ""), comment=comment,
        config_id=config, source=events.SCORE_SOURCE_ANNOTATION, author=author,
    )  # fmt: skip
    position = _record(gateway, Event(score_recorded=recorded))
    console.show_result(
        {"score_id": score_id, "position": position},
        f"gave {escape_control(name)} (score {escape_control(score_id)})",
        as_json=as_json,
    )


@app.command("retract")
@with_options(target=score_target, gateway=options.gateway)
def retract_score(
    *,
    gateway: Gateway,
    target: events.ScoreTarget,
    score_id: Annotated[str, typer.Argument(metavar="SCORE_ID")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why the score is retracted.")] = "",
    as_json: AsJson = False,
) -> None:
    """Retract a score; its history stays.

    \b
    Examples:
      lodestream scores retract 8a1f… --session chat-42 --reason "wrong session"
    """  # noqa: D301
    retracted = events.ScoreRetracted(score_id=score_id, target=target, reason=reason)
    position = _record(gateway, Event(score_retracted=retracted))
    console.show_result(
        {"score_id": score_id, "position": position},
        f"retracted score {escape_control(score_id)}",
        as_json=as_json,
    )


@app.command("list")
@with_options(time_range=options.time_range, pages=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def list_scores(
    *,
    gateway: Gateway,
    time_range: TimeRange,
    pages: Pages,
    wait_for: WaitFor | None,
    name: Names = None,
    trace: Traces = None,
    session: Annotated[list[str] | None, typer.Option(metavar="ID", help="Given to this session.")] = None,
    run: Annotated[list[str] | None, typer.Option(metavar="ID", help="Given to this experiment run.")] = None,
    source: Annotated[
        list[Source] | None, typer.Option(help="From this source; repeat to match any of several.")
    ] = None,
    author: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Given by this author; repeat to match any of several.")
    ] = None,
    minimum: Annotated[
        float | None, typer.Option("--min", metavar="X", help="At least this value; true counts as 1.")
    ] = None,
    maximum: Annotated[float | None, typer.Option("--max", metavar="X", help="At most this value.")] = None,
    category: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="In this category; repeat to match any of several.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List current scores, newest first. --since, --from and --to refer to when they were given.

    \b
    Examples:
      lodestream scores list --trace 0af7651916cd43dd8448eb211c80319c
      lodestream scores list --name helpful --max 0.5 --since 1d --json
    """  # noqa: D301
    score_filter = pb.ScoreFilter(
        trace_ids=trace, session_ids=session, run_ids=run, names=name, authors=author,
        sources=[events.ScoreSource.Value(f"SCORE_SOURCE_{each.name}") for each in source or ()],
        scored_from=time_range.start_from, scored_before=time_range.start_before,
        min_value=minimum, max_value=maximum, categories=category,
    )  # fmt: skip

    def fetch(size: int, token: str) -> pb.ListScoresResponse:
        request = pb.ListScoresRequest(filter=score_filter, page_size=size, page_token=token, wait_for=wait_for)
        return gateway.call(gateway.scores.ListScores, request)

    response = paging.gather(pages, fetch, lambda response: response.scores)
    if as_json:
        console.show_json(document(response))
        return
    zone = console.zone()
    today = datetime.now(zone).date()
    if response.scores:
        console.show(score_table(response.scores, width=console.width(), zone=zone, today=today))
    else:
        console.show([Text("no matching scores")])
    console.show(list_footer(len(response.scores), response.freshness, response.next_page_token, zone))


@app.command("history")
@with_options(wait_for=options.wait_for, gateway=options.gateway)
def history(
    *,
    gateway: Gateway,
    wait_for: WaitFor | None,
    score_id: Annotated[str, typer.Argument(metavar="SCORE_ID")],
    as_json: AsJson = False,
) -> None:
    """Show everything recorded under one score id, newest first.

    \b
    Examples:
      lodestream scores history feedback-42
    """  # noqa: D301
    request = pb.GetScoreHistoryRequest(score_id=score_id, wait_for=wait_for)
    response = gateway.call(gateway.scores.GetScoreHistory, request)
    if as_json:
        console.show_json(document(response))
        return
    zone = console.zone()
    console.show(score_table(response.scores, width=console.width(), zone=zone, today=datetime.now(zone).date()))
    console.show([footer(response.freshness, zone)])


@app.command("stats")
@with_options(time_range=options.time_range, wait_for=options.wait_for, gateway=options.gateway)
def stats(
    *,
    gateway: Gateway,
    time_range: TimeRange,
    wait_for: WaitFor | None,
    name: Names = None,
    by: Annotated[Grouping | None, typer.Option("--by", help="Also group by this.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count and average scores by name, and optionally by day, hour, prompt version or release.

    \b
    Examples:
      lodestream scores stats --since 7d --by day
      lodestream scores stats --name helpful --by prompt
    """  # noqa: D301
    score_filter = pb.ScoreFilter(names=name, scored_from=time_range.start_from, scored_before=time_range.start_before)
    grouping = pb.ScoreGrouping.Value(f"SCORE_GROUPING_{by.name if by else 'UNSPECIFIED'}")
    request = pb.AggregateScoresRequest(filter=score_filter, grouping=grouping, wait_for=wait_for)
    response = gateway.call(gateway.scores.AggregateScores, request)
    if as_json:
        console.show_json(document(response))
        return
    console.show(
        group_table(response.groups, width=console.width()) if response.groups else [Text("no matching scores")]
    )
    console.show([footer(response.freshness, console.zone())])


def _record(gateway: Gateway, event: Event) -> str:
    """Where the event is in the log. Raises CliError when it was refused."""
    event.event_id = str(uuid.uuid4())
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC))
    event.occurred_at.CopyFrom(now)
    response = gateway.call(gateway.ingest.Record, RecordRequest(events=[event]))
    (result,) = response.results
    if result.outcome != EVENT_OUTCOME_ACCEPTED:
        raise CliError(f"{result.field}: {result.reason}", ExitCode.USAGE)
    return response.position


@configs_app.command("list")
@with_options(wait_for=options.wait_for, gateway=options.gateway)
def list_configs(
    *,
    gateway: Gateway,
    wait_for: WaitFor | None,
    archived: Annotated[bool, typer.Option("--archived", help="Include archived configs.")] = False,
    as_json: AsJson = False,
) -> None:
    """List score configs.

    \b
    Examples:
      lodestream scores configs list --json
    """  # noqa: D301
    request = pb.ListScoreConfigsRequest(with_archived=archived, wait_for=wait_for)
    response = gateway.call(gateway.scores.ListScoreConfigs, request)
    if as_json:
        console.show_json(document(response))
        return
    console.show(
        config_table(response.configs, width=console.width()) if response.configs else [Text("no score configs")]
    )
    console.show([footer(response.freshness, console.zone())])


@configs_app.command("define")
@with_options(gateway=options.gateway)
def define_config(
    *,
    gateway: Gateway,
    config_id: Annotated[
        str, typer.Argument(metavar="ID", help="Id of the config; an id given again replaces the config.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the scores it applies to.")],
    minimum: Annotated[float | None, typer.Option("--min", metavar="X", help="Smallest allowed number.")] = None,
    maximum: Annotated[float | None, typer.Option("--max", metavar="X", help="Largest allowed number.")] = None,
    category: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=VALUE", help="Allowed category and its value; repeat for several."),
    ] = None,
    boolean: Annotated[bool, typer.Option("--boolean", help="Allow true and false.")] = False,
    description: Annotated[str, typer.Option(metavar="TEXT", help="Description of the config.")] = "",
    archive: Annotated[bool, typer.Option("--archive", help="Archive the config.")] = False,
    as_json: AsJson = False,
) -> None:
    """Define which values the scores of a name may have: numbers in a range, categories, or true and false.

    \b
    Examples:
      lodestream scores configs define stars stars --min 1 --max 5
      lodestream scores configs define tone tone --category kind=1 --category rude=0
    """  # noqa: D301
    if boolean and category:
        raise typer.BadParameter("can't be combined with --category", param_hint="--boolean")
    kind = events.SCORE_TYPE_BOOLEAN if boolean else events.SCORE_TYPE_NUMERIC
    config = events.ScoreConfigDefined(
        config_id=config_id, name=name, type=events.SCORE_TYPE_CATEGORICAL if category else kind,
        min_value=minimum, max_value=maximum, categories=[_category(each) for each in category or ()],
        description=description, archived=archive,
    )  # fmt: skip
    defined = gateway.call(gateway.scores.DefineScoreConfig, pb.DefineScoreConfigRequest(config=config))
    console.show_result(
        document(defined),
        f"defined {escape_control(config_id)}",
        as_json=as_json,
    )


def _category(text: str) -> events.ScoreCategory:
    label, equals, value = text.rpartition("=")
    try:
        if label and equals:
            return events.ScoreCategory(label=label, value=float(value))
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is not LABEL=VALUE", param_hint="--category")


app.add_typer(configs_app, name="configs", help="Define and list the rules that scores must satisfy.")
