"""`lodestream admin`: projects, keys, providers, spending caps and projections, directly in Postgres."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import asyncpg
import typer
from rich.text import Text

from services.edge.cli import console
from services.edge.cli.errors import CliError
from services.edge.cli.options import AsJson
from services.edge.cli.postgres import in_postgres
from services.edge.cli.render.tables import Column, lay_out
from services.edge.cli.render.text import escape_control
from shared.auth import keys
from shared.projection import progress
from shared.storage import provider_access
from shared.storage.provider_access import PICODOLLARS, Cap, in_dollars

app = typer.Typer(no_args_is_help=True)
projects_app = typer.Typer(no_args_is_help=True)
keys_app = typer.Typer(no_args_is_help=True)
providers_app = typer.Typer(no_args_is_help=True)
caps_app = typer.Typer(no_args_is_help=True)
Project = Annotated[str, typer.Argument(metavar="PROJECT")]
Period = Annotated[str, typer.Option("--period", metavar="day|month", help="Day or month, in UTC.")]


@projects_app.command("create")
def create_project(
    project_id: Annotated[str, typer.Argument(metavar="ID")],
    name: Annotated[str, typer.Option(metavar="NAME", help="Display name; by default the id.")] = "",
    as_json: AsJson = False,
) -> None:
    """Create a project. Exits with 1 when the id is taken.

    \b
    Examples:
      lodestream admin projects create support --name "Support assistant"
    """  # noqa: D301
    if not project_id:
        raise typer.BadParameter("must not be empty", param_hint="ID")
    if not in_postgres(lambda connection: keys.create_project(connection, project_id, name or project_id)):
        raise CliError(f"project {project_id!r} already exists")
    console.show_result(
        {"project_id": project_id, "name": name or project_id},
        f"created project {escape_control(project_id)}",
        as_json=as_json,
    )


@projects_app.command("list")
def list_projects(as_json: AsJson = False) -> None:
    """List all projects.

    \b
    Examples:
      lodestream admin projects list --json
    """  # noqa: D301
    projects = in_postgres(keys.list_projects)
    if as_json:
        console.show_json({"projects": [_document(project) for project in projects]})
    else:
        console.show(_table({"id": "project_id", "name": "name", "created": "created_at"}, projects))


@keys_app.command("create")
def create_key(project_id: Annotated[str, typer.Argument(metavar="PROJECT")], as_json: AsJson = False) -> None:
    """Create an API key for a project. The secret is shown only this once.

    \b
    Examples:
      lodestream admin keys create support
      eval "$(lodestream admin keys create support)"    # straight into the environment
    """  # noqa: D301
    try:
        key = in_postgres(lambda connection: keys.create_key(connection, project_id))
    except keys.NoSuchProjectError as error:
        raise CliError(f"{error}: create it with `lodestream admin projects create`") from None
    if as_json:
        console.show_json({"project_id": project_id, **asdict(key)})
    else:
        console.show(
            [
                Text(f"export LODESTREAM_PUBLIC_KEY={key.public_key}"),
                Text(f"export LODESTREAM_SECRET_KEY={key.secret_key}"),
            ]
        )


@keys_app.command("list")
def list_keys(
    project_id: Annotated[str | None, typer.Argument(metavar="[PROJECT]")] = None, as_json: AsJson = False
) -> None:
    """List the keys of a project, or of all projects, with the end of each secret.

    \b
    Examples:
      lodestream admin keys list support
      lodestream admin keys list --json | jq '.keys[] | select(.revoked_at == null)'
    """  # noqa: D301
    rows = in_postgres(lambda connection: keys.list_keys(connection, project_id))
    if as_json:
        console.show_json({"keys": [_document(key) for key in rows]})
        return
    columns = {"project": "project_id", "public key": "public_key", "secret": "secret_hint", "created": "created_at",
               "revoked": "revoked_at"}  # fmt: skip
    console.show(_table(columns, rows))


@keys_app.command("revoke")
def revoke_key(public_key: Annotated[str, typer.Argument(metavar="PUBLIC_KEY")], as_json: AsJson = False) -> None:
    """Revoke a key: within a minute no gateway accepts it any more. Exits with 1 when there is no such key.

    \b
    Examples:
      lodestream admin keys revoke pk-ls-3kT9hQ2mXw8LrZ5v
    """  # noqa: D301
    if not in_postgres(lambda connection: keys.revoke_key(connection, public_key)):
        raise CliError(f"there is no key {public_key!r} that could be revoked")
    console.show_result(
        {"public_key": public_key, "revoked": True},
        f"revoked {escape_control(public_key)}",
        as_json=as_json,
    )


@app.command("positions")
def list_positions(as_json: AsJson = False) -> None:
    """Show how far each projection has come in each partition of the log, and why it has halted.

    \b
    Examples:
      lodestream admin positions
      lodestream admin positions --json | jq '.positions[] | select(.halted_reason)'
    """  # noqa: D301
    positions = in_postgres(progress.list_positions)
    if as_json:
        console.show_json({"positions": [_document(position) for position in positions]})
        return
    columns = {"projection": "projection", "partition": "partition", "next offset": "next_offset",
               "last record": "last_record_at", "halted": "halted_reason"}  # fmt: skip
    console.show(_table(columns, positions))


def _table(columns: dict[str, str], rows: Sequence[Any]) -> list[Text]:
    """A table of rows; `columns` maps titles to attributes. The first column is never left out."""
    return lay_out(
        [
            Column(title=title, cells=[Text(_cell_text(getattr(row, field))) for row in rows], rank=rank)
            for rank, (title, field) in enumerate(columns.items())
        ],
        console.width(),
    )


def _cell_text(value: str | datetime | None) -> str:
    if isinstance(value, datetime):
        return value.astimezone(console.zone()).strftime("%Y-%m-%d %H:%M")
    return escape_control(value or "")


def _document(row: Any) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(row).items()}


@providers_app.command("list")
def list_providers(project_id: Project, as_json: AsJson = False) -> None:
    """List which of the providers that evaluation workers offer now, and which models, a project may use.

    \b
    Examples:
      lodestream admin providers list support
    """  # noqa: D301
    access = in_postgres(lambda connection: provider_access.read_access(connection, project_id))
    models = {name: sorted(allowed.models) if allowed.models is not None else None for name, allowed in access.items()}
    if as_json:
        console.show_json(
            {"providers": [{"provider": name, "kind": access[name].kind, "models": models[name]} for name in access]}
        )
        return
    rows = [
        (name, access[name].kind, ", ".join(allowed) if allowed is not None else "any")
        for name, allowed in models.items()
    ]
    console.show(_text_table(("provider", "kind", "models"), rows))


@providers_app.command("grant")
def grant_provider(
    project_id: Project,
    provider: Annotated[str, typer.Argument(metavar="PROVIDER")],
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Model that it may use; repeat for several. By default all."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Grant a project a provider whose entry says `"access": "granted"`, or restrict its models of another.

    \b
    Examples:
      lodestream admin providers grant support openai --model gpt-4o-mini
    """  # noqa: D301
    _of_a_project(project_id, lambda connection: provider_access.grant(connection, project_id, provider, model or []))
    models = escape_control(", ".join(model or ["all models"]))
    console.show_result(
        {"project_id": project_id, "provider": provider, "models": sorted(set(model or []))},
        f"{escape_control(project_id)} may use {models} of {escape_control(provider)}",
        as_json=as_json,
    )


@providers_app.command("revoke")
def revoke_provider(
    project_id: Project, provider: Annotated[str, typer.Argument(metavar="PROVIDER")], as_json: AsJson = False
) -> None:
    """Revoke a grant: within seconds workers make no further call with it. Exits with 1 when there was none.

    \b
    Examples:
      lodestream admin providers revoke support openai
    """  # noqa: D301
    if not in_postgres(lambda connection: provider_access.revoke(connection, project_id, provider)):
        raise CliError(f"project {project_id!r} has no grant of {provider!r}")
    console.show_result(
        {"project_id": project_id, "provider": provider, "revoked": True},
        f"revoked {escape_control(provider)} for {escape_control(project_id)}",
        as_json=as_json,
    )


@caps_app.command("list")
def list_caps(
    project_id: Annotated[str | None, typer.Argument(metavar="[PROJECT]")] = None, as_json: AsJson = False
) -> None:
    """List the spending caps of a project, or of all projects, and what has been spent.

    \b
    Examples:
      lodestream admin caps list
    """  # noqa: D301
    caps = in_postgres(lambda connection: provider_access.read_caps(connection, project_id))
    if as_json:
        console.show_json({"caps": [_cap_document(cap) for cap in caps]})
        return
    rows = [
        (
            cap.project_id, cap.period, in_dollars(cap.picodollars), in_dollars(cap.max_picodollars), f"{cap.tokens:,}",
            f"{cap.max_tokens:,}",
        )
        for cap in caps
    ]  # fmt: skip
    console.show(_text_table(("project", "period", "spent", "of", "unpriced tokens", "of tokens"), rows))


@caps_app.command("set")
def set_cap(
    project_id: Project,
    period: Period,
    usd: Annotated[float, typer.Option(min=0, metavar="USD", help="Limit in US dollars, by the price table.")],
    tokens: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Limit in tokens of models without a price; 0 means that they may not be used."
        ),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Cap what a project may spend on model calls in a day or a month; a run that reaches it ends with that reason.

    \b
    Examples:
      lodestream admin caps set support --period day --usd 5
      lodestream admin caps set support --period month --usd 100 --tokens 2000000
    """  # noqa: D301
    _check_period(period)
    picodollars = round(Decimal(str(usd)) * PICODOLLARS)
    _of_a_project(
        project_id,
        lambda connection: provider_access.set_cap(
            connection, project_id, period, picodollars=Decimal(picodollars), tokens=tokens
        ),
    )
    console.show_result(
        {"project_id": project_id, "period": period, "max_usd": usd, "max_tokens": tokens},
        f"{escape_control(project_id)} may spend ${usd:,.2f} in a {period}",
        as_json=as_json,
    )


@caps_app.command("remove")
def remove_cap(project_id: Project, period: Period, as_json: AsJson = False) -> None:
    """Remove a cap. Exits with 1 when there was none.

    \b
    Examples:
      lodestream admin caps remove support --period day
    """  # noqa: D301
    _check_period(period)
    if not in_postgres(lambda connection: provider_access.remove_cap(connection, project_id, period)):
        raise CliError(f"project {project_id!r} has no cap for a {period}")
    console.show_result(
        {"project_id": project_id, "period": period, "removed": True},
        f"{escape_control(project_id)} no longer has a cap for a {period}",
        as_json=as_json,
    )


def _of_a_project(project_id: str, work: provider_access.Work) -> None:
    """Raises CliError when there is no such project."""

    async def do(connection: asyncpg.Connection) -> bool:
        try:
            await work(connection)
        except asyncpg.ForeignKeyViolationError:
            return False
        return True

    if not in_postgres(do):
        raise CliError(f"there is no project {project_id!r}: create it with `lodestream admin projects create`")


def _check_period(period: str) -> None:
    if period not in provider_access.PERIODS:
        raise typer.BadParameter("is day or month", param_hint="--period")


def _cap_document(cap: Cap) -> dict[str, object]:
    return {
        "project_id": cap.project_id,
        "period": cap.period,
        "spent_usd": float(cap.picodollars / PICODOLLARS),
        "max_usd": float(cap.max_picodollars / PICODOLLARS),
        "spent_tokens": int(cap.tokens),
        "max_tokens": int(cap.max_tokens),
    }


def _text_table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[Text]:
    return lay_out(
        [
            Column(title=title, cells=[Text(escape_control(row[rank])) for row in rows], rank=rank)
            for rank, title in enumerate(titles)
        ],
        console.width(),
    )


app.add_typer(projects_app, name="projects", help="Create and list projects.")
app.add_typer(keys_app, name="keys", help="Create, list and revoke API keys.")
app.add_typer(providers_app, name="providers", help="Manage which model providers a project may use.")
app.add_typer(caps_app, name="caps", help="Manage what a project may spend on model calls.")
