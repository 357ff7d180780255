"""`lodestream rebuild`: a read model folded anew from the log beside the live one, compared, and swapped in."""

from typing import Annotated

import typer

from services.edge.cli.options import AsJson
from services.edge.cli.projection_process import follow


def rebuild(
    read_model: Annotated[str, typer.Argument(metavar="READ_MODEL", help="traces")],
    *,
    processes: Annotated[int | None, typer.Option(min=1, help="That fold; by default the cores.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Throw an unfinished rebuild away first.")] = False,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="Swap although the two differ, as after a change of the code.")
    ] = False,
    no_swap: Annotated[bool, typer.Option("--no-swap", help="End after the comparison; run again to swap.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Only make the one before the last swap live again.")] = False,
    drop_old: Annotated[bool, typer.Option("--drop-old", help="Only drop the one before the last swap.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rebuild a read model from the log, compare it with the live one, and swap the two. Nothing stops meanwhile.

    Killed or interrupted, it goes on when it is run again. Ends with 1 when the two differ, and then nothing is
    swapped. Needs LODESTREAM_KAFKA and LODESTREAM_POSTGRES, and the version of Lodestream that the projections run.

    \b
    Examples:
      lodestream rebuild traces
      lodestream rebuild traces --no-swap --json | jq 'select(.event == "compared")'
      lodestream rebuild traces --drop-old
    """  # noqa: D301
    flags = {
        "--restart": restart,
        "--accept-differences": accept_differences,
        "--no-swap": no_swap,
        "--undo": undo,
        "--drop-old": drop_old,
    }
    words = ["rebuild", *(flag for flag, given in flags.items() if given)]
    if processes:
        words += ["--processes", str(processes)]
    follow(read_model, words, as_json=as_json)
