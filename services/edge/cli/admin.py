"""`lodestream admin`: projects, their keys, providers and caps; projections. In Postgres (LODESTREAM_POSTGRES)."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from services.edge.cli import admin_providers, screen
from services.edge.cli.failures import Failure
from services.edge.cli.options import AsJson
from services.edge.cli.postgres import in_postgres
from services.edge.cli.render.columns import Column, lay_out
from services.edge.cli.render.text import inert
from shared.read_model import keys, progress

app = typer.Typer(no_args_is_help=True)
projects_app = typer.Typer(no_args_is_help=True)
keys_app = typer.Typer(no_args_is_help=True)
app.add_typer(projects_app, name="projects", help="Create projects, list them.")
app.add_typer(keys_app, name="keys", help="Create API keys, list and revoke them.")
app.add_typer(admin_providers.providers_app, name="providers", help="Which model providers a project may use.")
app.add_typer(admin_providers.caps_app, name="caps", help="What a project may spend on model calls.")


@projects_app.command("create")
def create_project(
    project_id: Annotated[str, typer.Argument(metavar="ID")],
    name: Annotated[str, typer.Option(help="For people; by default the id.")] = "",
    as_json: AsJson = False,
) -> None:
    """Create a project. Ends with 1 when there is one with this id.

    \b
    Examples:
      lodestream admin projects create support --name "Support assistant"
    """  # noqa: D301
    if not project_id:
        raise typer.BadParameter("must not be empty", param_hint="ID")
    if not in_postgres(lambda connection: keys.create_project(connection, project_id, name or project_id)):
        raise Failure(f"there is a project {project_id!r} already")
    if as_json:
        screen.show_json({"project_id": project_id, "name": name or project_id})
    else:
        screen.show([Text(f"created project {inert(project_id)}")])


@projects_app.command("list")
def list_projects(as_json: AsJson = False) -> None:
    """List all projects.

    \b
    Examples:
      lodestream admin projects list --json
    """  # noqa: D301
    projects = in_postgres(keys.list_projects)
    if as_json:
        screen.show_json({"projects": [_document(project) for project in projects]})
    else:
        screen.show(_table({"id": "project_id", "name": "name", "created": "created_at"}, projects))


@keys_app.command("create")
def create_key(project_id: Annotated[str, typer.Argument(metavar="PROJECT")], as_json: AsJson = False) -> None:
    """Create an API key for a project. The secret is shown now and never again.

    \b
    Examples:
      lodestream admin keys create support
      eval "$(lodestream admin keys create support)"    # straight into the environment
    """  # noqa: D301
    try:
        key = in_postgres(lambda connection: keys.create_key(connection, project_id))
    except keys.NoSuchProjectError as error:
        raise Failure(f"{error}: create it with `lodestream admin projects create`") from None
    if as_json:
        screen.show_json({"project_id": project_id, **asdict(key)})
    else:
        screen.show(
            [
                Text(f"export LODESTREAM_PUBLIC_KEY={key.public_key}"),
                Text(f"export LODESTREAM_SECRET_KEY={key.secret_key}"),
            ]
        )


@keys_app.command("list")
def list_keys(
    project_id: Annotated[str | None, typer.Argument(metavar="[PROJECT]")] = None, as_json: AsJson = False
) -> None:
    """List the keys of a project, or of all; of the secrets only the end is known.

    \b
    Examples:
      lodestream admin keys list support
      lodestream admin keys list --json | jq '.keys[] | select(.revoked_at == null)'
    """  # noqa: D301
    found = in_postgres(lambda connection: keys.list_keys(connection, project_id))
    if as_json:
        screen.show_json({"keys": [_document(key) for key in found]})
        return
    columns = {"project": "project_id", "public key": "public_key", "secret": "secret_hint", "created": "created_at",
               "revoked": "revoked_at"}  # fmt: skip
    screen.show(_table(columns, found))


@keys_app.command("revoke")
def revoke_key(public_key: Annotated[str, typer.Argument(metavar="PUBLIC_KEY")], as_json: AsJson = False) -> None:
    """Revoke a key: within a minute no gateway accepts it any more. Ends with 1 when there is no such key.

    \b
    Examples:
      lodestream admin keys revoke pk-ls-3kT9hQ2mXw8LrZ5v
    """  # noqa: D301
    if not in_postgres(lambda connection: keys.revoke_key(connection, public_key)):
        raise Failure(f"there is no key {public_key!r} that could be revoked")
    if as_json:
        screen.show_json({"public_key": public_key, "revoked": True})
    else:
        screen.show([Text(f"revoked {inert(public_key)}")])


@app.command("positions")
def list_positions(as_json: AsJson = False) -> None:
    """Show how far each projection has come in each partition of the log, and why one has stopped.

    \b
    Examples:
      lodestream admin positions
      lodestream admin positions --json | jq '.positions[] | select(.halted_reason)'
    """  # noqa: D301
    found = in_postgres(progress.list_positions)
    if as_json:
        screen.show_json({"positions": [_document(position) for position in found]})
        return
    columns = {"projection": "projection", "partition": "partition", "next offset": "next_offset",
               "last record": "last_record_at", "stopped": "halted_reason"}  # fmt: skip
    screen.show(_table(columns, found))


def _table(columns: dict[str, str], rows: Sequence[Any]) -> list[Text]:
    """Columns by title and attribute; the first one is never left out."""
    return lay_out(
        [
            Column(title=title, cells=[Text(_shown(getattr(row, field))) for row in rows], rank=rank)
            for rank, (title, field) in enumerate(columns.items())
        ],
        screen.width(),
    )


def _shown(value: str | datetime | None) -> str:
    if isinstance(value, datetime):
        return value.astimezone(screen.zone()).strftime("%Y-%m-%d %H:%M")
    return inert(value or "")


def _document(row: Any) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(row).items()}
