"""The `lodestream` command. Exit codes: 0 done, 1 failed or not found, 2 wrong usage."""

import sys
import traceback
from typing import NoReturn

import typer

from services.edge.cli import (
    admin,
    datasets,
    dead_letters,
    experiments,
    maintenance,
    prompts,
    scores,
    sessions,
    status,
    traces,
)
from services.edge.cli.errors import CliError, ExitCode

app = typer.Typer(
    help="Inspect traces, sessions, prompts, scores, datasets and experiments, and the state of Lodestream.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help, that can be piped and read in any terminal
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.add_typer(traces.app, name="traces", help="List traces, show one, watch them arrive.")
app.add_typer(sessions.app, name="sessions", help="List sessions, show one.")
app.add_typer(prompts.app, name="prompts", help="Show prompts and their history, and change them.")
app.add_typer(scores.app, name="scores", help="Give scores, and list and summarize them.")
app.add_typer(datasets.app, name="datasets", help="Show datasets, fill them from files and traces, export them.")
app.add_typer(experiments.app, name="experiments", help="Run prompts over datasets; watch, compare and gate the runs.")
app.command("status")(status.status)
app.command("rebuild")(maintenance.rebuild)
app.command("verify")(maintenance.verify)
app.add_typer(dead_letters.app, name="dead-letters", help="List, show and redrive what projections could not fold.")
app.add_typer(admin.app, name="admin", help="Manage projects, API keys, providers and caps, directly in Postgres.")


def main() -> NoReturn:
    """Run the command line, and report errors in one sentence."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that lacks a letter still shows the rest
    try:
        app(prog_name="lodestream")
    except CliError as failure:
        _end(str(failure), failure.code)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        _end(f"this is a bug: {type(error).__name__}: {error} ({place.filename}:{place.lineno})", ExitCode.FAILED)
    sys.exit(ExitCode.OK)


def _end(message: str, code: ExitCode) -> NoReturn:
    sys.stderr.write(f"lodestream: {message}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
