"""`lodestream experiments`: start runs, watch them, look at what came of them, compare them."""

from datetime import datetime
from typing import Annotated

import typer
from lodestream.reports import Report
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.query_pb2 import WaitFor
from rich.text import Text

from services.edge.cli import (
    experiment_compare,
    experiment_gate,
    experiment_moves,
    experiment_run,
    options,
    paging,
    report_files,
    screen,
)
from services.edge.cli.connection import Gateway
from services.edge.cli.experiment_watch import watched
from services.edge.cli.failures import ExitCode
from services.edge.cli.option_groups import takes
from services.edge.cli.options import AsJson
from services.edge.cli.paging import Pages
from services.edge.cli.render import experiments as pictures
from services.edge.cli.render.documents import document
from services.edge.cli.render.tables import list_footer
from services.edge.cli.report_files import ReportFiles, show_report
from services.edge.cli.run_states import State
from services.edge.cli.runs import find_run, has_ended, items_of

app = typer.Typer(no_args_is_help=True)
Run = Annotated[str, typer.Argument(metavar="RUN", help="A name, DATASET/NAME or an id, or how one begins; `latest`.")]


@app.command("list")
@takes(wanted=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def list_runs(
    *,
    gateway: Gateway,
    wanted: Pages,
    wait_for: WaitFor | None,
    dataset: Annotated[str, typer.Option(metavar="NAME", help="Over this dataset.")] = "",
    contains: Annotated[str, typer.Option(metavar="TEXT", help="With this text in the name, in any case.")] = "",
    state: Annotated[list[State] | None, typer.Option(help="In this state. Several: any of them.")] = None,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first.

    \b
    Examples:
      lodestream experiments list --dataset questions
      lodestream experiments list --state running --json
    """  # noqa: D301
    states = [pb.ExperimentState.Value(f"EXPERIMENT_STATE_{each.name}") for each in state or ()]

    def fetch(size: int, token: str) -> pb.ListExperimentsResponse:
        request = pb.ListExperimentsRequest(
            dataset_name=dataset, name_contains=contains, states=states,
            page_size=size, page_token=token, wait_for=wait_for,
        )  # fmt: skip
        return gateway.ask(gateway.experiments.ListExperiments, request)

    found = paging.gather(wanted, fetch, lambda answer: answer.runs)
    if as_json:
        screen.show_json(document(found))
        return
    zone = screen.zone()
    if found.runs:
        today = datetime.now(zone).date()
        screen.show(pictures.run_table(found.runs, width=screen.width(), zone=zone, today=today))
    else:
        screen.show([Text("no such runs")])
    screen.show(list_footer(len(found.runs), found.freshness, found.next_page_token, zone))


@app.command("show")
@takes(files=report_files.report_files, gateway=options.gateway)
def show_run(
    *,
    gateway: Gateway,
    files: ReportFiles,
    run: Run,
    items: Annotated[bool, typer.Option("--items", help="A table of its items, not the report.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="A table of the items that ended with an error.")] = False,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, metavar="N", help="Of --items: so many lines.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Show what came of a run: its metrics, which items failed and why, and where it struggled.

    \b
    Examples:
      lodestream experiments show latest
      lodestream experiments show answer.4.20260301-121500 --failed
      lodestream experiments show 3f9a --html report.html --markdown report.md
    """  # noqa: D301
    found = find_run(gateway, run)
    its = items_of(gateway, found, with_dataset_items=True)
    report = Report(found, its, trace_url=files.trace_url)
    files.write(report)
    if items or failed:
        listed = [item for item in its if item.result.error] if failed else its
        if as_json:
            screen.show_json({"run_id": found.request.run_id, "items": [document(item) for item in listed]})
        else:
            screen.show(
                pictures.run_item_table(listed[:limit], width=screen.width()) if listed else [Text("no such items")]
            )
            screen.show([Text(f"{min(len(listed), limit):,} of {len(listed):,} shown", style="dim")])
    else:
        show_report(report, as_document=as_json)


@app.command("watch")
@takes(gateway=options.gateway)
def watch(
    *,
    gateway: Gateway,
    run: Run,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON document a change, one a line.")] = False,
) -> None:
    """Watch a run until it has ended, then show what came of it. Ctrl-C stops watching, not the run.

    Ends with 1 unless the run is completed.

    \b
    Examples:
      lodestream experiments watch latest
      lodestream experiments watch answer.4 --json | jq .items_finished
    """  # noqa: D301
    found = watched(gateway, find_run(gateway, run), as_lines=as_json)
    if not as_json:
        show_report(Report(found, items_of(gateway, found, with_dataset_items=True)), as_document=False)
    if has_ended(found) and found.state != pb.EXPERIMENT_STATE_COMPLETED:
        raise typer.Exit(ExitCode.FAILED)


app.command("run")(experiment_run.run_experiment)
app.command("pause")(experiment_moves.pause)
app.command("resume")(experiment_moves.resume)
app.command("cancel")(experiment_moves.cancel)
app.command("compare")(experiment_compare.compare)
app.command("gate")(experiment_gate.gate)
