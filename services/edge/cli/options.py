"""The options that most commands share: how to reach the gateway, as fresh as what, and in which form to answer."""

from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from lodestream_proto.v1.query_pb2 import WaitFor

from services.edge.cli import arguments, local_stack, screen
from services.edge.cli.connection import Gateway, choose_target, connected

AsJson = Annotated[bool, typer.Option("--json", help="A JSON document instead of a picture.")]
Author = Annotated[str, typer.Option(envvar="LODESTREAM_AUTHOR", metavar="NAME", help="Who is said to have done it.")]
_TIMEOUT = timedelta(seconds=30)
_WAIT = timedelta(seconds=5)


def duration_option(name: str, help_text: str, default: str | bool = True) -> Any:
    """An option for a duration. Its default is None, as typer would parse any other; `default` is what help says."""
    return typer.Option(
        name,
        parser=arguments.typed(arguments.duration),
        metavar="DURATION",
        help=help_text,
        show_default=default,
    )


def instant_option(name: str, help_text: str) -> Any:
    """An option for a point in time."""
    return typer.Option(name, parser=arguments.typed(arguments.instant), metavar="TIME", help=help_text)


def gateway(
    *,
    endpoint: Annotated[
        str | None,
        typer.Option(envvar="LODESTREAM_ENDPOINT", metavar="HOST:PORT", help="The gateway; https:// in front for TLS."),
    ] = None,
    public_key: Annotated[str | None, typer.Option(envvar="LODESTREAM_PUBLIC_KEY", metavar="KEY")] = None,
    secret_key: Annotated[
        str | None,
        typer.Option(
            envvar="LODESTREAM_SECRET_KEY",
            metavar="KEY",
            help="Without one, that of a stack which `make up` started.",
        ),
    ] = None,
    timeout: Annotated[timedelta | None, duration_option("--timeout", "How long an answer may take.", "30s")] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say which gateway and key are used.")] = False,
) -> AbstractContextManager[Gateway]:
    """The gateway and a key for it: options, then environment, then a local stack, then the default address."""
    stack = local_stack.find(Path.cwd()) if not (endpoint and secret_key) else None
    target = choose_target(endpoint, public_key, secret_key, stack.environment if stack else {})
    if verbose:
        screen.remark(f"asking {target.endpoint}, key {target.public_key or '(secret only)'} from {target.origin}")
    return connected(target, (timeout or _TIMEOUT).total_seconds())


def wait_for(
    *,
    wait_position: Annotated[
        str,
        typer.Option("--wait-for", metavar="POSITION", help="Answer only with all that was written at this position."),
    ] = "",
    wait_timeout: Annotated[timedelta | None, duration_option("--wait-timeout", "For --wait-for.", "5s")] = None,
) -> WaitFor | None:
    """Read your writes."""
    if not wait_position:
        return None
    return WaitFor(position=wait_position, timeout_ms=(wait_timeout or _WAIT) // timedelta(milliseconds=1))
