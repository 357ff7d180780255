"""`lodestream scores`: give, retract and list scores, and define the rules that they keep to."""

import enum
import os
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
from services.edge.cli.render.text import inert

_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_TRUTHS = {"true": True, "false": False}
app = typer.Typer(no_args_is_help=True)
Names = Annotated[list[str] | None, typer.Option("--name", help="With this name. Several: any of them.")]
Traces = Annotated[
    list[str] | None,
    typer.Option("--trace", parser=arguments.typed(arguments.full_trace_id), metavar="ID", help="Of this trace."),
]
configs_app = typer.Typer(no_args_is_help=True)


def score_target(
    *,
    trace: Annotated[
        str | None, typer.Option(parser=arguments.typed(arguments.full_trace_id), metavar="ID", help="Of a trace.")
    ] = None,
    span: Annotated[str, typer.Option(metavar="ID", help="Of a span of it; with --trace.")] = "",
    session: Annotated[str, typer.Option(metavar="ID", help="Of a session.")] = "",
    run: Annotated[str, typer.Option(metavar="ID", help="Of an experiment run.")] = "",
) -> ScoreTarget:
    """One of them."""
    if sum(map(bool, (trace, session, run))) != 1:
        raise typer.BadParameter("give one of --trace, --session and --run", param_hint="--trace")
    if span and not (trace and _SPAN_ID.fullmatch(span)):
        raise typer.BadParameter("is 16 hex digits, and needs --trace", param_hint="--span")
    return ScoreTarget(trace_id=bytes.fromhex(trace or ""), span_id=bytes.fromhex(span), session_id=session, run_id=run)


def score_value(text: str, kind: str) -> ScoreValue:
    """The value in what was typed; by default a number where it is one, then true and false, else a category.

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
    """What scores are counted by, beside their names."""

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
    kind: Annotated[Kind | None, typer.Option("--type", help="If the value does not tell.")] = None,
    comment: Annotated[str, typer.Option(help="Why.")] = "",
    config: Annotated[str, typer.Option(metavar="ID", help="The rule that the value has to keep.")] = "",
    score_id: Annotated[str, typer.Option("--id", metavar="ID", help="The same again supersedes the former.")] = "",
    author: Annotated[str, typer.Option(envvar="LODESTREAM_AUTHOR", metavar="NAME", help="Who judges.")] = "",
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
        config_id=config, source=events.SCORE_SOURCE_ANNOTATION, author=author or os.environ.get("USER", ""),
    )  # fmt: skip
    position = _record(gateway, Event(score_recorded=recorded))
    if as_json:
        console.show_json({"score_id": score_id, "position": position})
    else:
        console.show([Text(f"gave {inert(name)} (score {inert(score_id)})")])


@app.command("retract")
@with_options(target=score_target, gateway=options.gateway)
def retract_score(
    *,
    gateway: Gateway,
    target: events.ScoreTarget,
    score_id: Annotated[str, typer.Argument(metavar="SCORE_ID")],
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    as_json: AsJson = False,
) -> None:
    """Withdraw a score of what it is about; its history stays.

    \b
    Examples:
      lodestream scores retract 8a1f… --session chat-42 --reason "wrong session"
    """  # noqa: D301
    retracted = events.ScoreRetracted(score_id=score_id, target=target, reason=reason)
    position = _record(gateway, Event(score_retracted=retracted))
    if as_json:
        console.show_json({"score_id": score_id, "position": position})
    else:
        console.show([Text(f"retracted score {inert(score_id)}")])


@app.command("list")
@with_options(when=options.time_range, wanted=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def list_scores(
    *,
    gateway: Gateway,
    when: TimeRange,
    wanted: Pages,
    wait_for: WaitFor | None,
    name: Names = None,
    trace: Traces = None,
    session: Annotated[list[str] | None, typer.Option(metavar="ID", help="Of this session.")] = None,
    run: Annotated[list[str] | None, typer.Option(metavar="ID", help="Of this experiment run.")] = None,
    source: Annotated[list[Source] | None, typer.Option(help="From there. Several: any of them.")] = None,
    author: Annotated[list[str] | None, typer.Option(help="Given by. Several: any of them.")] = None,
    least: Annotated[float | None, typer.Option("--min", help="At least this; true is 1.")] = None,
    most: Annotated[float | None, typer.Option("--max", help="At most this.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="This category. Several: any of them.")] = None,
    as_json: AsJson = False,
) -> None:
    """List scores as they are now, the newest first. --since, --from and --to are about when they were given.

    \b
    Examples:
      lodestream scores list --trace 0af7651916cd43dd8448eb211c80319c
      lodestream scores list --name helpful --max 0.5 --since 1d --json
    """  # noqa: D301
    only = pb.ScoreFilter(
        trace_ids=trace, session_ids=session, run_ids=run, names=name, authors=author,
        sources=[events.ScoreSource.Value(f"SCORE_SOURCE_{each.name}") for each in source or ()],
        scored_from=when.start_from, scored_before=when.start_before,
        min_value=least, max_value=most, categories=category,
    )  # fmt: skip

    def fetch(size: int, token: str) -> pb.ListScoresResponse:
        request = pb.ListScoresRequest(filter=only, page_size=size, page_token=token, wait_for=wait_for)
        return gateway.ask(gateway.scores.ListScores, request)

    found = paging.gather(wanted, fetch, lambda answer: answer.scores)
    if as_json:
        console.show_json(document(found))
        return
    zone = console.zone()
    today = datetime.now(zone).date()
    if found.scores:
        console.show(score_table(found.scores, width=console.width(), zone=zone, today=today))
    else:
        console.show([Text("no such scores")])
    console.show(list_footer(len(found.scores), found.freshness, found.next_page_token, zone))


@app.command("history")
@with_options(wait_for=options.wait_for, gateway=options.gateway)
def history(
    *,
    gateway: Gateway,
    wait_for: WaitFor | None,
    score_id: Annotated[str, typer.Argument(metavar="SCORE_ID")],
    as_json: AsJson = False,
) -> None:
    """Show all that was ever said under one score id, the newest first.

    \b
    Examples:
      lodestream scores history feedback-42
    """  # noqa: D301
    request = pb.GetScoreHistoryRequest(score_id=score_id, wait_for=wait_for)
    found = gateway.ask(gateway.scores.GetScoreHistory, request)
    if as_json:
        console.show_json(document(found))
        return
    zone = console.zone()
    console.show(score_table(found.scores, width=console.width(), zone=zone, today=datetime.now(zone).date()))
    console.show([footer(found.freshness, zone)])


@app.command("stats")
@with_options(when=options.time_range, wait_for=options.wait_for, gateway=options.gateway)
def stats(
    *,
    gateway: Gateway,
    when: TimeRange,
    wait_for: WaitFor | None,
    name: Names = None,
    by: Annotated[Grouping | None, typer.Option("--by", help="Also by this.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count scores and average them, by name, and by day, hour, prompt version or release.

    \b
    Examples:
      lodestream scores stats --since 7d --by day
      lodestream scores stats --name helpful --by prompt
    """  # noqa: D301
    only = pb.ScoreFilter(names=name, scored_from=when.start_from, scored_before=when.start_before)
    grouping = pb.ScoreGrouping.Value(f"SCORE_GROUPING_{by.name if by else 'UNSPECIFIED'}")
    request = pb.AggregateScoresRequest(filter=only, grouping=grouping, wait_for=wait_for)
    found = gateway.ask(gateway.scores.AggregateScores, request)
    if as_json:
        console.show_json(document(found))
        return
    console.show(group_table(found.groups, width=console.width()) if found.groups else [Text("no such scores")])
    console.show([footer(found.freshness, console.zone())])


def _record(gateway: Gateway, event: Event) -> str:
    """Where the event is in the log. Raises CliError when it was refused."""
    event.event_id = str(uuid.uuid4())
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC))
    event.occurred_at.CopyFrom(now)
    answer = gateway.ask(gateway.ingest.Record, RecordRequest(events=[event]))
    (result,) = answer.results
    if result.outcome != EVENT_OUTCOME_ACCEPTED:
        raise CliError(f"{result.field}: {result.reason}", ExitCode.USAGE)
    return answer.position


@configs_app.command("list")
@with_options(wait_for=options.wait_for, gateway=options.gateway)
def list_configs(
    *,
    gateway: Gateway,
    wait_for: WaitFor | None,
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the rules.

    \b
    Examples:
      lodestream scores configs list --json
    """  # noqa: D301
    request = pb.ListScoreConfigsRequest(with_archived=archived, wait_for=wait_for)
    found = gateway.ask(gateway.scores.ListScoreConfigs, request)
    if as_json:
        console.show_json(document(found))
        return
    console.show(config_table(found.configs, width=console.width()) if found.configs else [Text("no score configs")])
    console.show([footer(found.freshness, console.zone())])


@configs_app.command("define")
@with_options(gateway=options.gateway)
def define_config(
    *,
    gateway: Gateway,
    config_id: Annotated[str, typer.Argument(metavar="ID", help="The same again replaces the rule.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the scores.")],
    least: Annotated[float | None, typer.Option("--min", help="The least number.")] = None,
    most: Annotated[float | None, typer.Option("--max", help="The greatest number.")] = None,
    category: Annotated[
        list[str] | None, typer.Option(metavar="LABEL=VALUE", help="A category and its value. Several: all of them.")
    ] = None,
    boolean: Annotated[bool, typer.Option("--boolean", help="True or false.")] = False,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    archive: Annotated[bool, typer.Option("--archive", help="Take it out of use.")] = False,
    as_json: AsJson = False,
) -> None:
    """Define what scores of a name may be: numbers in a range, categories, or true and false.

    \b
    Examples:
      lodestream scores configs define stars stars --min 1 --max 5
      lodestream scores configs define tone tone --category kind=1 --category rude=0
    """  # noqa: D301
    if boolean and category:
        raise typer.BadParameter("has no categories", param_hint="--boolean")
    kind = events.SCORE_TYPE_BOOLEAN if boolean else events.SCORE_TYPE_NUMERIC
    config = events.ScoreConfigDefined(
        config_id=config_id, name=name, type=events.SCORE_TYPE_CATEGORICAL if category else kind,
        min_value=least, max_value=most, categories=[_category(each) for each in category or ()],
        description=description, archived=archive,
    )  # fmt: skip
    defined = gateway.ask(gateway.scores.DefineScoreConfig, pb.DefineScoreConfigRequest(config=config))
    if as_json:
        console.show_json(document(defined))
    else:
        console.show([Text(f"defined {inert(config_id)}")])


def _category(text: str) -> events.ScoreCategory:
    label, equals, value = text.rpartition("=")
    try:
        if label and equals:
            return events.ScoreCategory(label=label, value=float(value))
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is not LABEL=VALUE", param_hint="--category")


app.add_typer(configs_app, name="configs", help="The rules that scores keep to.")
