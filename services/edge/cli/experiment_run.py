"""`lodestream experiments run`: a prompt over a dataset, evaluated by the server's workers."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

import typer
from lodestream_evals.reports import Report
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.datasets_pb2 import DatasetSelector
from lodestream_proto.v1.experiment_event_pb2 import ExperimentBudget, ExperimentRequested
from lodestream_proto.v1.prompts_pb2 import GetPromptRequest, PromptSelector
from rich.text import Text

from services.edge.cli import console, options, runs
from services.edge.cli.arguments import typed
from services.edge.cli.connection import Gateway
from services.edge.cli.console import json_from
from services.edge.cli.errors import CliError, ExitCode
from services.edge.cli.options import AsJson, Author, duration_option, with_options
from services.edge.cli.render.text import escape_control
from services.edge.cli.runs import ReportFiles, items_of, show_report, watch_run

_SETTING = re.compile(r",(?=[A-Za-z_][A-Za-z0-9_]*=)")
_KIND = re.compile(r"[a-z][a-z0-9_]*")


class Spec(dict[str, Any]):
    """An object that becomes JSON: an evaluator, or a prompt reference."""


_Specs = list[Spec] | None


class Setting(NamedTuple):
    """A setting's name and value."""

    name: str
    value: Any


def evaluator_spec(text: str) -> Spec:
    """`contains:value=14 days,ignore_case=true` as {"kind": "contains", "value": "14 days", "ignore_case": true}.

    Values are JSON where they can be, else texts. A comma is between settings only where NAME= follows. Raises
    ValueError.
    """
    kind, colon, rest = text.partition(":")
    if not _KIND.fullmatch(kind.strip()):
        raise ValueError(f"{text!r} does not begin with a kind: write contains:value=14 days,name=mentions-days")
    spec = Spec(kind=kind.strip())
    if colon and not rest.strip():
        raise ValueError(f"{text!r} has no settings after its colon")
    for piece in _SETTING.split(rest) if rest else ():
        name, value = setting(piece)
        if name in spec:
            raise ValueError(f"{text!r} sets {name} twice")
        spec[name] = value
    return spec


def setting(text: str) -> Setting:
    """`temperature=0` as ("temperature", 0). Raises ValueError."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"{text!r} is not NAME=VALUE")
    try:
        return Setting(name.strip(), json.loads(value, parse_constant=_refuse))
    except (ValueError, RecursionError):
        return Setting(name.strip(), value)


def prompt_named(text: str) -> Spec:
    """`answer`, `answer:7`, `answer:staging`: a prompt's production version, a version, a label. Raises ValueError."""
    name, colon, version_or_label = text.rpartition(":")
    if not colon:
        name, version_or_label = text, ""
    if not name or (colon and not version_or_label):
        raise ValueError(f"{text!r} is not a prompt: write answer, answer:7 or answer:staging")
    if version_or_label.isdecimal() and version_or_label.isascii():
        return Spec(name=name, version=int(version_or_label))
    return Spec(name=name, label=version_or_label or "production")


def spec_lists(content: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The evaluators and run evaluators of a file: a list, or an object with both.

    Raises ValueError.
    """
    if isinstance(content, list):
        content = {"evaluators": content}
    if not isinstance(content, dict) or not set(content) <= {"evaluators", "run_evaluators"}:
        raise ValueError("is neither a list of evaluators nor an object with evaluators and run_evaluators")
    lists = content.get("evaluators", []), content.get("run_evaluators", [])
    for specs in lists:
        if not (isinstance(specs, list) and all(isinstance(spec, dict) for spec in specs)):
            raise ValueError("has evaluators that are not a list of objects")
    return lists


def default_name(prompt: Mapping[str, Any], version: int, stamp: str) -> str:
    """`answer.4.20260301-121500`."""
    return f"{prompt['name']}.{version}.{stamp}"


def task_of(prompt: Mapping[str, Any], provider: str, model: str, settings: Sequence[Setting]) -> dict[str, Any]:
    """The task that runs a prompt against a model."""
    task: dict[str, Any] = {"kind": "prompt", "prompt": dict(prompt), "provider": provider, "model": model}
    return {**task, "settings": dict(settings)} if settings else task


def _refuse(name: str) -> None:
    raise ValueError(name)


@dataclass(frozen=True, slots=True)
class Evaluators:
    """The evaluators of items, and of the run as a whole."""

    evaluators: Sequence[dict[str, Any]]
    run_evaluators: Sequence[dict[str, Any]]


def evaluators_group(
    *,
    evaluator: Annotated[
        _Specs,
        typer.Option(
            parser=typed(evaluator_spec),
            metavar="SPEC",
            help="Evaluator of items, for example contains:value=14 days,ignore_case=true; repeatable.",
        ),
    ] = None,
    run_evaluator: Annotated[
        _Specs,
        typer.Option(
            parser=typed(evaluator_spec),
            metavar="SPEC",
            help="Evaluator of the run, for example pass_rate:of=correct; repeatable.",
        ),
    ] = None,
    evaluators: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="JSON file with a list of evaluators, or {evaluators: […], run_evaluators: […]}."
        ),
    ] = "",
) -> Evaluators:
    """Evaluators as they are typed and as a file has them, checked."""
    items: list[dict[str, Any]] = list(evaluator or ())
    runs: list[dict[str, Any]] = list(run_evaluator or ())
    if evaluators:
        try:
            from_file = spec_lists(json_from(f"@{evaluators}", evaluators))
        except ValueError as error:
            raise CliError(f"{evaluators}: {error}", ExitCode.USAGE) from None
        items, runs = [*from_file[0], *items], [*from_file[1], *runs]
    _check(items, runs)
    return Evaluators(items, runs)


@with_options(
    selector=options.dataset_selector, evaluation=evaluators_group, files=runs.report_files, gateway=options.gateway
)
def run_experiment(
    *,
    gateway: Gateway,
    selector: DatasetSelector,
    evaluation: Evaluators,
    files: ReportFiles,
    prompt: Annotated[
        Spec,
        typer.Option(
            parser=typed(prompt_named),
            metavar="NAME[:VERSION|:LABEL]",
            help="Prompt to run; by default its production version.",
        ),
    ],
    provider: Annotated[
        str, typer.Option(metavar="NAME", help="Provider, as it is configured for the workers: mock, openai, …")
    ],
    model: Annotated[str, typer.Option(metavar="NAME", help="Model of the provider.")],
    settings: Annotated[
        list[Setting] | None,
        typer.Option(
            "--set",
            parser=typed(setting),
            metavar="NAME=VALUE",
            help="Setting of the model, for example temperature=0; repeatable.",
        ),
    ] = None,
    repetitions: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="How often each item is run.")] = 1,
    concurrency: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="Calls in flight at a time, at most.")
    ] = 8,
    max_cost: Annotated[
        float, typer.Option(min=0, metavar="USD", help="End the run at this cost; 0 means no limit.")
    ] = 0.0,
    max_time: Annotated[
        timedelta | None, duration_option("--max-time", "End the run after this time.", "never")
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="SPLIT", help="Only items of this split; repeat to match any of several."),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Name of the run; a name used again is the same run.",
            show_default="PROMPT.VERSION.TIME",
        ),
    ] = "",
    description: Annotated[
        str, typer.Option("-d", "--description", metavar="TEXT", help="Description of the run.")
    ] = "",
    detach: Annotated[bool, typer.Option("--detach", help="Start the run without waiting for it.")] = False,
    author: Author = "",
    as_json: AsJson = False,
) -> None:
    """Run a prompt over a dataset, watch it, and show the results. Ctrl-C stops watching, not the run.

    Exits with 1 unless the run completed. A run that its budget ends keeps the items finished by then.

    \b
    Examples:
      lodestream experiments run questions --prompt answer:staging --provider openai --model gpt-5 \\
        --set temperature=0 --evaluator 'contains:value=14 days,name=mentions-days' --run-evaluator pass_rate:of=mentions-days
      lodestream experiments run questions@12 --prompt answer:7 --provider mock --model mock-large \\
        --evaluators judges.json --repetitions 3 --max-cost 0.5 --html report.html
    """  # noqa: D301, E501
    version = _version(gateway, prompt)
    budget = ExperimentBudget(max_cost_usd=max_cost, max_seconds=max_time.total_seconds() if max_time else 0)
    experiment = ExperimentRequested(
        name=name or default_name(prompt, version, datetime.now(UTC).strftime("%Y%m%d-%H%M%S")),
        task_json=json.dumps(task_of(prompt, provider, model, settings or ())),
        evaluators_json=json.dumps(evaluation.evaluators), run_evaluators_json=json.dumps(evaluation.run_evaluators),
        repetitions=repetitions, max_concurrency=concurrency, splits=split, description=description,
        budget=budget if max_cost or max_time else None, author=author,
    )  # fmt: skip
    started = gateway.call(
        gateway.experiments.StartExperiment, pb.StartExperimentRequest(experiment=experiment, dataset=selector)
    )
    run_id = started.run.request.run_id
    if detach:
        _show_started(started, as_json=as_json)
        return
    verb = "started" if started.created else "already started"
    console.remark(escape_control(f"{verb} {started.run.request.name} (run {run_id})"))
    ended = watch_run(gateway, started.run)
    report = Report(ended, items_of(gateway, ended, with_dataset_items=True), trace_url=files.trace_url)
    files.write(report)
    show_report(report, as_document=as_json)
    if ended.state != pb.EXPERIMENT_STATE_COMPLETED:
        raise typer.Exit(ExitCode.FAILED)


def _check(items: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]]) -> None:
    """Raise typer.BadParameter for an invalid evaluator, before anything is started."""
    from lodestream_evals.evaluators import EvaluatorSpecError, evaluators_of, run_evaluators_of

    for option, make, specs in (
        ("--evaluator", evaluators_of, items),
        ("--run-evaluator", run_evaluators_of, runs),
    ):
        try:
            make(specs)
        except EvaluatorSpecError as error:
            place, _, setting_name = error.field.partition(".")
            spec = specs[int(place)] if place.isdecimal() else {}
            about = f"{spec.get('kind', '')} {setting_name}".strip()
            raise typer.BadParameter(f"{about}: {error.message}", param_hint=option) from None


def _version(gateway: Gateway, prompt: dict[str, Any]) -> int:
    """The prompt's current version, for the name of the run. Raises CliError when there is none."""
    selector = PromptSelector(**prompt)
    return gateway.call(gateway.prompts.GetPrompt, GetPromptRequest(prompt=selector)).prompt.version


def _show_started(started: pb.StartExperimentResponse, *, as_json: bool) -> None:
    run = started.run.request
    if as_json:
        result = {"run_id": run.run_id, "name": run.name, "created": started.created, "position": started.position}
        console.show_json(result)
        return
    verb = "started" if started.created else "already started"
    console.show([
        Text(f"{verb} {escape_control(run.name)} (run {run.run_id})"),
        Text(f"lodestream experiments watch {run.run_id}", style="dim"),
        Text(f"lodestream experiments cancel {run.run_id}", style="dim"),
    ])  # fmt: skip
