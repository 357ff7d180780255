"""`lodestream scores configs`: the rules that scores keep to."""

from typing import Annotated

import typer
from lodestream_proto.v1 import score_event_pb2 as events
from lodestream_proto.v1 import scores_pb2 as pb
from lodestream_proto.v1.query_pb2 import WaitFor
from rich.text import Text

from services.edge.cli import options, screen
from services.edge.cli.connection import Gateway
from services.edge.cli.option_groups import takes
from services.edge.cli.options import AsJson
from services.edge.cli.render.documents import document
from services.edge.cli.render.scores import config_table
from services.edge.cli.render.tables import footer
from services.edge.cli.render.text import inert

app = typer.Typer(no_args_is_help=True)


@app.command("list")
@takes(wait_for=options.wait_for, gateway=options.gateway)
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
        screen.show_json(document(found))
        return
    screen.show(config_table(found.configs, width=screen.width()) if found.configs else [Text("no score configs")])
    screen.show([footer(found.freshness, screen.zone())])


@app.command("define")
@takes(gateway=options.gateway)
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
        screen.show_json(document(defined))
    else:
        screen.show([Text(f"defined {inert(config_id)}")])


def _category(text: str) -> events.ScoreCategory:
    label, equals, value = text.rpartition("=")
    try:
        if label and equals:
            return events.ScoreCategory(label=label, value=float(value))
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is not LABEL=VALUE", param_hint="--category")
