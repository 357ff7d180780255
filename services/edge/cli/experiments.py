"""`lodestream experiments`: list, show, watch, pause, resume and cancel runs."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, tzinfo
from typing import Annotated

import typer
from lodestream_evals.reports import Report
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
from services.edge.cli.render.text import escape_control
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
    watch_run,
)

app = typer.Typer(no_args_is_help=True)
Run = Annotated[str, typer.Argument(metavar="RUN", help="Name, DATASET/NAME, id or the beginning of one; or `latest`.")]
_MAX_METRICS = 5


@app.command("list")
@with_options(pages=paging.pages, wait_for=options.wait_for, gateway=options.gateway)
def list_runs(
    *,
    gateway: Gateway,
    pages: Pages,
    wait_for: WaitFor | None,
    dataset: Annotated[str, typer.Option(metavar="NAME", help="On this dataset.")] = "",
    contains: Annotated[str, typer.Option(metavar="TEXT", help="With this text in the name, ignoring case.")] = "",
    state: Annotated[list[State] | None, typer.Option(help="In this state; repeat to match any of several.")] = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first.

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
        return gateway.call(gateway.experiments.ListExperiments, request)

    response = paging.gather(pages, fetch, lambda response: response.runs)
    if as_json:
        console.show_json(document(response))
        return
    zone = console.zone()
    if response.runs:
        today = datetime.now(zone).date()
        console.show(run_table(response.runs, width=console.width(), zone=zone, today=today))
    else:
        console.show([Text("no matching runs")])
    console.show(list_footer(len(response.runs), response.freshness, response.next_page_token, zone))


@app.command("show")
@with_options(files=runs.report_files, gateway=options.gateway)
def show_run(
    *,
    gateway: Gateway,
    files: ReportFiles,
    run: Run,
    items: Annotated[bool, typer.Option("--items", help="Show a table of items instead of the report.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Show a table of the failed items.")] = False,
    limit: Annotated[
        int, typer.Option("-n", "--limit", min=1, metavar="N", help="Show at most this many items.")
    ] = 200,
    as_json: AsJson = False,
) -> None:
    """Show the results of a run: its metrics, which items failed and why, and where it struggled.

    \b
    Examples:
      lodestream experiments show latest
      lodestream experiments show answer.4.20260301-121500 --failed
      lodestream experiments show 3f9a --html report.html --markdown report.md
    """  # noqa: D301
    experiment = find_run(gateway, run)
    all_items = items_of(gateway, experiment, with_dataset_items=True)
    report = Report(experiment, all_items, trace_url=files.trace_url)
    files.write(report)
    if items or failed:
        listed = [item for item in all_items if item.result.error] if failed else all_items
        if as_json:
            console.show_json({"run_id": experiment.request.run_id, "items": [document(item) for item in listed]})
        else:
            console.show(
                run_item_table(listed[:limit], width=console.width()) if listed else [Text("no matching items")]
            )
            console.show([Text(f"{min(len(listed), limit):,} of {len(listed):,} shown", style="dim")])
    else:
        show_report(report, as_document=as_json)


@app.command("watch")
@with_options(gateway=options.gateway)
def watch(
    *,
    gateway: Gateway,
    run: Run,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document per change and line.")] = False,
) -> None:
    """Watch a run until it ends, then show its results. Ctrl-C stops watching, not the run.

    Exits with 1 unless the run completed.

    \b
    Examples:
      lodestream experiments watch latest
      lodestream experiments watch answer.4 --json | jq .items_finished
    """  # noqa: D301
    experiment = watch_run(gateway, find_run(gateway, run), as_lines=as_json)
    if not as_json:
        show_report(Report(experiment, items_of(gateway, experiment, with_dataset_items=True)), as_document=False)
    if has_ended(experiment) and experiment.state != pb.EXPERIMENT_STATE_COMPLETED:
        raise typer.Exit(ExitCode.FAILED)


app.command("run")(experiment_run.run_experiment)


@app.command("pause")
@with_options(gateway=options.gateway)
def pause(*, gateway: Gateway, run: Run, author: Author = "", as_json: AsJson = False) -> None:
    """Pause a run: no new items start, and items in flight finish.

    \b
    Examples:
      lodestream experiments pause latest
    """  # noqa: D301
    request = pb.PauseExperimentRequest(run_id=_run_id(gateway, run), author=author)
    response = gateway.call(gateway.experiments.PauseExperiment, request)
    _show_state(response.run, response.position, as_json=as_json)


@app.command("resume")
@with_options(gateway=options.gateway)
def resume(*, gateway: Gateway, run: Run, author: Author = "", as_json: AsJson = False) -> None:
    """Resume a paused run.

    \b
    Examples:
      lodestream experiments resume latest
    """  # noqa: D301
    request = pb.ResumeExperimentRequest(run_id=_run_id(gateway, run), author=author)
    response = gateway.call(gateway.experiments.ResumeExperiment, request)
    _show_state(response.run, response.position, as_json=as_json)


@app.command("cancel")
@with_options(gateway=options.gateway)
def cancel(
    *,
    gateway: Gateway,
    run: Run,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why the run is cancelled.")] = "",
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """Cancel a run; finished items stay. Exits with 1 when the run has already ended.

    \b
    Examples:
      lodestream experiments cancel latest --reason "wrong model"
    """  # noqa: D301
    request = pb.CancelExperimentRequest(run_id=_run_id(gateway, run), reason=reason, author=author)
    response = gateway.call(gateway.experiments.CancelExperiment, request)
    _show_state(response.run, response.position, as_json=as_json)


app.command("compare")(experiment_compare.compare)
app.command("gate")(experiment_compare.gate)


def _run_id(gateway: Gateway, name: str) -> str:
    return find_run(gateway, name).request.run_id


def _show_state(run: pb.ExperimentRun, position: str, *, as_json: bool) -> None:
    if as_json:
        state = State[pb.ExperimentState.Name(run.state).removeprefix("EXPERIMENT_STATE_")]
        result = {"run_id": run.request.run_id, "name": run.request.name, "state": state.value, "position": position}
        console.show_json(result)
    else:
        console.show(
            [Text.assemble(escape_control(run.request.name), ": ", state_word(run), f", {progress_words(run)}")]
        )


def run_table(runs: Sequence[pb.ExperimentRun], *, width: int, zone: tzinfo, today: date) -> list[Text]:
    """A table with one line per run. Other commands take the id and the name."""
    requested = instants([run.requested_at for run in runs], zone, today)
    names = Counter(evaluation.name for run in runs for evaluation in run.evaluations)
    return lay_out(
        [
            Column(title="requested", cells=[Text(each, style="dim") for each in requested], rank=3),
            Column(title="name", cells=[Text(escape_control(run.request.name)) for run in runs], min_width=20),
            Column(title="dataset", cells=[Text(_dataset(run)) for run in runs], rank=4, min_width=12),
            Column(title="state", cells=[state_word(run) for run in runs]),
            Column(title="items", cells=[Text(_progress(run)) for run in runs], right=True, rank=1),
            Column(title="failed", cells=[_failed(run.items_failed) for run in runs], right=True, rank=2),
            *(
                Column(title=escape_control(name), cells=[_mean(run, name) for run in runs], right=True, rank=5 + rank)
                for rank, (name, _) in enumerate(names.most_common(_MAX_METRICS))
            ),
            Column(title="p95", cells=[_latency(run) for run in runs], right=True, rank=11),
            Column(title="cost", cells=[Text(_spent(run)) for run in runs], right=True, rank=10),
            Column(title="id", cells=[Text(run.request.run_id, style="dim") for run in runs], rank=12),
        ],
        width,
    )


def run_item_table(items: Sequence[pb.ExperimentItem], *, width: int) -> list[Text]:
    """A table with one line per repetition of an item."""
    names = list(dict.fromkeys(evaluation.name for item in items for evaluation in item.result.evaluations))[
        :_MAX_METRICS
    ]
    several = any(item.result.repetition for item in items)
    return lay_out(
        [
            Column(title="item", cells=[Text(escape_control(item.result.item_id)) for item in items], min_width=12),
            Column(
                title="", cells=[Text(f"#{item.result.repetition + 1}" if several else "") for item in items], rank=3
            ),
            Column(title="input", cells=[Text(_input(item)) for item in items], rank=6, min_width=16),
            Column(title="output", cells=[_output(item) for item in items], min_width=20),
            *(
                Column(
                    title=escape_control(name),
                    cells=[_evaluation(item, name) for item in items],
                    right=True,
                    rank=5 + rank,
                )
                for rank, name in enumerate(names)
            ),
            Column(title="time", cells=[Text(_item_duration(item)) for item in items], right=True, rank=2),
            Column(title="cost", cells=[Text(_item_cost(item)) for item in items], right=True, rank=4),
            Column(title="trace", cells=[Text(item.result.trace_id.hex(), style="dim") for item in items], rank=12),
        ],
        width,
    )


def _dataset(run: pb.ExperimentRun) -> str:
    version = f"@{run.request.dataset_version}" if run.request.dataset_version else ""
    return escape_control(f"{run.dataset_name}{version}") if run.dataset_name else ""


def _failed(number: int) -> Text:
    return Text(count(number), style="red") if number else Text("")


def _mean(run: pb.ExperimentRun, name: str) -> Text:
    evaluation = next((evaluation for evaluation in run.evaluations if evaluation.name == name), None)
    if evaluation is None:
        return Text("")
    if evaluation.HasField("mean"):
        return Text(f"{100 * evaluation.mean:.1f} %" if evaluation.counts else f"{evaluation.mean:.3g}")
    most_common = max(evaluation.counts.items(), key=lambda pair: pair[1], default=("", 0))
    return Text(escape_control(f"{most_common[0]} {most_common[1]:,}") if most_common[1] else "")


def _latency(run: pb.ExperimentRun) -> Text:
    return Text(duration(run.latency_p95_us) if run.latency_p95_us else "")


def _input(item: pb.ExperimentItem) -> str:
    return preview(item.item.input_json or item.result.input_json)


def _output(item: pb.ExperimentItem) -> Text:
    if item.result.error:
        return Text(escape_control(" ".join(item.result.error[:400].split())), style="red")
    return Text(preview(item.result.output_json))


def _evaluation(item: pb.ExperimentItem, name: str) -> Text:
    evaluation = next((evaluation for evaluation in item.result.evaluations if evaluation.name == name), None)
    return Text("") if evaluation is None else _value(evaluation)


def _value(evaluation: ItemEvaluation) -> Text:
    match evaluation.WhichOneof("value"):
        case "numeric":
            return Text(f"{evaluation.numeric:.4g}")
        case "boolean":
            return Text("true", style="green") if evaluation.boolean else Text("false", style="red")
        case "categorical":
            return Text(escape_control(evaluation.categorical))
        case "error":
            return Text("failed", style="red")
    return Text(escape_control(" ".join(evaluation.text[:60].split())))


def _item_duration(item: pb.ExperimentItem) -> str:
    result = item.result
    if not (result.HasField("started_at") and result.HasField("ended_at")):
        return ""
    return duration(max(result.ended_at.ToMicroseconds() - result.started_at.ToMicroseconds(), 0))


def _item_cost(item: pb.ExperimentItem) -> str:
    return cost(item.result.usage.cost_picodollars / 1e12)
