"""`lodestream verify`: a read model compared with the log, on a live system."""

from typing import Annotated

import typer

from services.edge.cli.options import AsJson
from services.edge.cli.projection_process import follow


def verify(
    read_model: Annotated[str, typer.Argument(metavar="READ_MODEL", help="traces")] = "traces", as_json: AsJson = False
) -> None:
    """Fold the log anew, up to where the projection is, and say what of it is missing, extra or altered in Postgres.

    Ends with 0 when nothing is, with 1 when something is, with 2 when that could not be found out. Needs
    LODESTREAM_KAFKA and LODESTREAM_POSTGRES, and the version of Lodestream that the projections run.

    \b
    Examples:
      lodestream verify
      lodestream verify --json | jq 'select(.event == "verified") | .rows'
    """  # noqa: D301
    follow(read_model, ["verify"], as_json=as_json)
