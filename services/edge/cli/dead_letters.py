"""`lodestream dead-letters`: what a projection could not fold, directly in Postgres (LODESTREAM_POSTGRES)."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import typer
from rich.text import Text

from services.edge.cli import console
from services.edge.cli.errors import CliError
from services.edge.cli.maintenance import follow
from services.edge.cli.options import AsJson
from services.edge.cli.postgres import in_postgres
from services.edge.cli.render.tables import Column, lay_out
from services.edge.cli.render.text import escape_control
from shared.projection.dead_letters import (
    MOST_KEPT,
    WHOLE_RECORD,
    Kept,
    Overflow,
    Selection,
    count_letters,
    list_letters,
    list_overflow,
    raw_of,
)
from shared.projection.parking import count_parked

app = typer.Typer(no_args_is_help=True)

ReadModel = Annotated[str, typer.Option("--read-model", metavar="NAME", help="Read model of the dead letters.")]
Project = Annotated[
    str | None, typer.Option(metavar="PROJECT", help="Only of this project; '' stands for unreadable records.")
]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Only with this text in the reason.")]
Where = Annotated[str, typer.Argument(metavar="PARTITION:OFFSET")]


@app.command("list")
def list_command(
    read_model: ReadModel = "traces",
    *,
    project: Project = None,
    reason: Reason = None,
    redriven: Annotated[bool, typer.Option("--all", help="Include those redriven already.")] = False,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Show at most this many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters in log order, and count them by reason.

    \b
    Examples:
      lodestream dead-letters list
      lodestream dead-letters list --reason trace_id --json | jq '.by_reason'
    """  # noqa: D301
    selection = Selection(project_id=project, reason=reason, redriven=None if redriven else False)
    counts = in_postgres(lambda connection: count_letters(connection, read_model, selection))
    letters = in_postgres(lambda connection: list_letters(connection, read_model, selection, limit=limit))
    overflow = in_postgres(lambda connection: list_overflow(connection, read_model, project))
    parked = in_postgres(lambda connection: count_parked(connection, read_model))
    if as_json:
        console.show_json(
            {
                "by_reason": counts,
                "dead_letters": [_document(letter) for letter in letters],
                "not_kept": [_document(each) for each in overflow],
                "parked": parked,
            }
        )
        return
    if not letters:
        console.show([Text("no dead letters")])
    else:
        _show_letters(letters, counts)
    console.show(_remarks(overflow, parked))


def _show_letters(letters: Sequence[Kept], counts: Mapping[str, int]) -> None:
    columns = {
        "position": [f"{letter.partition}:{letter.offset}" for letter in letters],
        "item": ["record" if letter.item == WHOLE_RECORD else str(letter.item) for letter in letters],
        "project": [escape_control(letter.project_id) for letter in letters],
        "recorded": [_local_time(letter.recorded_at) for letter in letters],
        "redriven": [_local_time(letter.redriven_at) for letter in letters],
        "reason": [escape_control(letter.reason)[:200] for letter in letters],
    }
    console.show(
        lay_out(
            [
                Column(title=title, cells=[Text(cell) for cell in cells], rank=rank)
                for rank, (title, cells) in enumerate(columns.items())
            ],
            console.width(),
        )
    )
    console.show([Text(), *(Text(f"{count:,} times {escape_control(why)[:150]}") for why, count in counts.items())])


def _remarks(overflow: Sequence[Overflow], parked: int) -> list[Text]:
    """Remarks on records that were not folded and not kept, and what to do about them."""
    remarks = [
        Text(
            f"{each.letters:,} more of project {escape_control(each.project_id)!r} in partition {each.partition} were "
            f"counted and not kept (limit {MOST_KEPT:,}), up to offset {each.last_offset}: "
            f"{escape_control(each.last_reason)[:100]}",
            style="yellow",
        )
        for each in overflow
    ]
    if overflow:
        remarks.append(Text("they are in the log: `lodestream rebuild` folds them once the code can"))
    if parked:
        remarks.append(
            Text(f"{parked:,} records of a newer version are parked; the upgraded projection folds them when it starts")
        )
    return remarks


@app.command("show")
def show(where: Where, read_model: ReadModel = "traces", *, as_json: AsJson = False) -> None:
    """Show the dead letters of one record, with their bytes. Exits with 1 when there are none.

    \b
    Examples:
      lodestream dead-letters show 3:1234
      lodestream dead-letters show 3:1234 --json | jq -r '.dead_letters[0].raw' | base64 -d > letter.bin
    """  # noqa: D301
    partition, offset = _place(where)
    selection = Selection(partition=partition, offset=offset, redriven=None)
    letters = in_postgres(lambda connection: list_letters(connection, read_model, selection, limit=10_000))
    if not letters:
        raise CliError(f"there is no dead letter at {where}")
    raws = [in_postgres(partial(raw_of, letter=letter)) for letter in letters]
    if as_json:
        documents = [
            {**_document(letter), "raw": base64.b64encode(raw).decode()}
            for letter, raw in zip(letters, raws, strict=True)
        ]
        console.show_json({"dead_letters": documents})
        return
    for letter, raw in zip(letters, raws, strict=True):
        what = "the whole record" if letter.item == WHOLE_RECORD else f"span {letter.item} of the record"
        lines = [f"{letter.topic}:{letter.partition}:{letter.offset}, {what}"]
        lines += [
            f"  {name} {escape_control(str(value))}" for name, value in _document(letter).items() if value is not None
        ]
        console.show([Text(line) for line in [*lines, f"  raw {raw[:64].hex()}{'…' if len(raw) > 64 else ''}"]])


@app.command("redrive")
def redrive(
    where: Annotated[str | None, typer.Argument(metavar="[PARTITION[:OFFSET]]")] = None,
    read_model: ReadModel = "traces",
    *,
    project: Project = None,
    reason: Reason = None,
    everything: Annotated[bool, typer.Option("--all", help="Redrive all that are not redriven yet.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fold dead letters again with the code installed here. Exits with 1 when some fail again.

    What folds now becomes the rows it should have been; what fails again is kept with the new reason.

    \b
    Examples:
      lodestream dead-letters redrive 3:1234
      lodestream dead-letters redrive --reason "KeyError"
      lodestream dead-letters redrive --all
    """  # noqa: D301
    arguments = ["redrive"]
    for name, value in (("--position", where), ("--project", project), ("--reason", reason)):
        arguments += [name, value] if value is not None else []
    if len(arguments) == 1 and not everything:
        raise typer.BadParameter("give a position, --project, --reason or --all")
    if where is not None:
        _place(where if ":" in where else f"{where}:0")
    follow(read_model, arguments, as_json=as_json)


def _place(where: str) -> tuple[int, int]:
    partition, _, offset = where.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise typer.BadParameter(f"{where!r} is not PARTITION:OFFSET", param_hint="PARTITION:OFFSET")
    return int(partition), int(offset)


def _local_time(moment: datetime | None) -> str:
    return moment.astimezone(console.zone()).strftime("%Y-%m-%d %H:%M") if moment else ""


def _document(letter: Kept | Overflow) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(letter).items()}
