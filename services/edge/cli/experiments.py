"""`lodestream experiments`: list, show, watch, pause, resume and cancel runs."""

import os
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, tzinfo
from typing import Annotated

import typer
from lodestream.reports import Report
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import ItemEvaluation
from lodestream_proto.v1.query_pb2 import WaitFor
from rich.text import Text

from services.edge.cli import console, experiment_compare, experiment_run, options, paging, runs
from services.edge.cli.connection import Gateway
from services.edge.cli.errors import ExitCode
from services.edge.cli.options import AsJson, Author, with_options
from services.edge.cli.paging import Pages
from services.edge.cli.render.datasets import preview
from services.edge.cli.render.json_output import document
from services.edge.cli.render.quantities import cost, count, duration, instants
from services.edge.cli.render.tables import Column, lay_out, list_footer
from services.edge.cli.render.text import inert
from services.edge.cli.runs import (
    ReportFiles,
    State,
    _progress,
    _spent,
    find_run,
    has_ended,
    items_of,
    progress_words,
    show_report,
    state_word,
    watched,
)

app = typer.Typer(no_args_is_help=True)
Run = Annotated[str, typer.Argument(metavar="RUN", help="A name, DATASET/NAME or an id, or how one begins; `latest`.")]
_MOST_METRICS = 5


@app.command("list")
@with_options(wanted=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
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
        console.show_json(document(found))
        return
    zone = console.zone()
    if found.runs:
        today = datetime.now(zone).date()
        console.show(run_table(found.runs, width=console.width(), zone=zone, today=today))
    else:
        console.show([Text("no such runs")])
    console.show(list_footer(len(found.runs), found.freshness, found.next_page_token, zone))


@app.command("show")
@with_options(files=runs.report_files, gateway=options.gateway)
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
            console.show_json({"run_id": found.request.run_id, "items": [document(item) for item in listed]})
        else:
            console.show(run_item_table(listed[:limit], width=console.width()) if listed else [Text("no such items")])
            console.show([Text(f"{min(len(listed), limit):,} of {len(listed):,} shown", style="dim")])
    else:
        show_report(report, as_document=as_json)


@app.command("watch")
@with_options(gateway=options.gateway)
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


@app.command("pause")
@with_options(gateway=options.gateway)
def pause(*, gateway: Gateway, run: Run, author: Author = "", as_json: AsJson = False) -> None:
    """Pause a run: no item is begun until it is resumed; items in flight come to their end.

    \b
    Examples:
      lodestream experiments pause latest
    """  # noqa: D301
    request = pb.PauseExperimentRequest(run_id=_id(gateway, run), author=author or _user())
    moved = gateway.ask(gateway.experiments.PauseExperiment, request)
    _tell(moved.run, moved.position, as_json=as_json)


@app.command("resume")
@with_options(gateway=options.gateway)
def resume(*, gateway: Gateway, run: Run, author: Author = "", as_json: AsJson = False) -> None:
    """Let a paused run go on.

    \b
    Examples:
      lodestream experiments resume latest
    """  # noqa: D301
    request = pb.ResumeExperimentRequest(run_id=_id(gateway, run), author=author or _user())
    moved = gateway.ask(gateway.experiments.ResumeExperiment, request)
    _tell(moved.run, moved.position, as_json=as_json)


@app.command("cancel")
@with_options(gateway=options.gateway)
def cancel(
    *,
    gateway: Gateway,
    run: Run,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """End a run before it is done; what is done stays. Ends with 1 when the run has ended already.

    \b
    Examples:
      lodestream experiments cancel latest --reason "wrong model"
    """  # noqa: D301
    request = pb.CancelExperimentRequest(run_id=_id(gateway, run), reason=reason, author=author or _user())
    moved = gateway.ask(gateway.experiments.CancelExperiment, request)
    _tell(moved.run, moved.position, as_json=as_json)


app.command("compare")(experiment_compare.compare)
app.command("gate")(experiment_compare.gate)


def _id(gateway: Gateway, named: str) -> str:
    return find_run(gateway, named).request.run_id


def _tell(run: pb.ExperimentRun, position: str, *, as_json: bool) -> None:
    if as_json:
        state = State[pb.ExperimentState.Name(run.state).removeprefix("EXPERIMENT_STATE_")]
        told = {"run_id": run.request.run_id, "name": run.request.name, "state": state.value, "position": position}
        console.show_json(told)
    else:
        console.show([Text.assemble(inert(run.request.name), ": ", state_word(run), f", {progress_words(run)}")])


def _user() -> str:
    return os.environ.get("USER", "")


def run_table(runs: Sequence[pb.ExperimentRun], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A line a run. The id is what the other commands take, as the name is."""
    asked = instants([run.requested_at for run in runs], zone, today)
    names = Counter(its.name for run in runs for its in run.evaluations)
    return lay_out(
        [
            Column(title="asked", cells=[Text(each, style="dim") for each in asked], rank=3),
            Column(title="name", cells=[Text(inert(run.request.name)) for run in runs], least=20),
            Column(title="dataset", cells=[Text(_dataset(run)) for run in runs], rank=4, least=12),
            Column(title="state", cells=[state_word(run) for run in runs]),
            Column(title="items", cells=[Text(_progress(run)) for run in runs], right=True, rank=1),
            Column(title="failed", cells=[_failed(run.items_failed) for run in runs], right=True, rank=2),
            *(
                Column(title=inert(name), cells=[_mean(run, name) for run in runs], right=True, rank=5 + rank)
                for rank, (name, _) in enumerate(names.most_common(_MOST_METRICS))
            ),
            Column(title="p95", cells=[_latency(run) for run in runs], right=True, rank=11),
            Column(title="cost", cells=[Text(_spent(run)) for run in runs], right=True, rank=10),
            Column(title="id", cells=[Text(run.request.run_id, style="dim") for run in runs], rank=12),
        ],
        width,
    )


def run_item_table(items: Sequence[pb.ExperimentItem], *, width: int) -> list[Text]:
    """A line a repetition of an item."""
    names = list(dict.fromkeys(its.name for item in items for its in item.result.evaluations))[:_MOST_METRICS]
    several = any(item.result.repetition for item in items)
    return lay_out(
        [
            Column(title="item", cells=[Text(inert(its.result.item_id)) for its in items], least=12),
            Column(title="", cells=[Text(f"#{its.result.repetition + 1}" if several else "") for its in items], rank=3),
            Column(title="input", cells=[Text(_input(its)) for its in items], rank=6, least=16),
            Column(title="output", cells=[_output(its) for its in items], least=20),
            *(
                Column(title=inert(name), cells=[_said(its, name) for its in items], right=True, rank=5 + rank)
                for rank, name in enumerate(names)
            ),
            Column(title="time", cells=[Text(_took(its)) for its in items], right=True, rank=2),
            Column(title="cost", cells=[Text(_price(its)) for its in items], right=True, rank=4),
            Column(title="trace", cells=[Text(its.result.trace_id.hex(), style="dim") for its in items], rank=12),
        ],
        width,
    )


def _dataset(run: pb.ExperimentRun) -> str:
    version = f"@{run.request.dataset_version}" if run.request.dataset_version else ""
    return inert(f"{run.dataset_name}{version}") if run.dataset_name else ""


def _failed(number: int) -> Text:
    return Text(count(number), style="red") if number else Text("")


def _mean(run: pb.ExperimentRun, name: str) -> Text:
    its = next((its for its in run.evaluations if its.name == name), None)
    if its is None:
        return Text("")
    if its.HasField("mean"):
        return Text(f"{100 * its.mean:.1f} %" if its.counts else f"{its.mean:.3g}")
    most = max(its.counts.items(), key=lambda pair: pair[1], default=("", 0))
    return Text(inert(f"{most[0]} {most[1]:,}") if most[1] else "")


def _latency(run: pb.ExperimentRun) -> Text:
    return Text(duration(run.latency_p95_us) if run.latency_p95_us else "")


def _input(item: pb.ExperimentItem) -> str:
    return preview(item.item.input_json or item.result.input_json)


def _output(item: pb.ExperimentItem) -> Text:
    if item.result.error:
        return Text(inert(" ".join(item.result.error[:400].split())), style="red")
    return Text(preview(item.result.output_json))


def _said(item: pb.ExperimentItem, name: str) -> Text:
    its = next((its for its in item.result.evaluations if its.name == name), None)
    return Text("") if its is None else _value(its)


def _value(its: ItemEvaluation) -> Text:
    match its.WhichOneof("value"):
        case "numeric":
            return Text(f"{its.numeric:.4g}")
        case "boolean":
            return Text("true", style="green") if its.boolean else Text("false", style="red")
        case "categorical":
            return Text(inert(its.categorical))
        case "error":
            return Text("failed", style="red")
    return Text(inert(" ".join(its.text[:60].split())))


def _took(item: pb.ExperimentItem) -> str:
    result = item.result
    if not (result.HasField("started_at") and result.HasField("ended_at")):
        return ""
    return duration(max(result.ended_at.ToMicroseconds() - result.started_at.ToMicroseconds(), 0))


def _price(item: pb.ExperimentItem) -> str:
    return cost(item.result.usage.cost_picodollars / 1e12)
