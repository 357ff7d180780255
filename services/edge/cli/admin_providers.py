"""`lodestream admin providers` and `lodestream admin caps`: what projects may use of models, and spend on them."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated

import asyncpg
import typer
from rich.text import Text

from services.edge.cli import screen
from services.edge.cli.failures import Failure
from services.edge.cli.options import AsJson
from services.edge.cli.postgres import in_postgres
from services.edge.cli.render.columns import Column, lay_out
from services.edge.cli.render.text import inert
from shared.read_model import provider_access
from shared.read_model.provider_access import PICODOLLARS, Cap, in_dollars

providers_app = typer.Typer(no_args_is_help=True)
caps_app = typer.Typer(no_args_is_help=True)
Project = Annotated[str, typer.Argument(metavar="PROJECT")]
Period = Annotated[str, typer.Option("--period", help="day or month, of UTC.")]


@providers_app.command("list")
def list_providers(project_id: Project, as_json: AsJson = False) -> None:
    """List what a project may use of the providers that evaluation workers offer now.

    \b
    Examples:
      lodestream admin providers list support
    """  # noqa: D301
    found = in_postgres(lambda connection: provider_access.read_access(connection, project_id))
    models = {name: sorted(its.models) if its.models is not None else None for name, its in found.items()}
    if as_json:
        screen.show_json(
            {"providers": [{"provider": name, "kind": found[name].kind, "models": models[name]} for name in found]}
        )
        return
    shown = [(name, found[name].kind, ", ".join(its) if its is not None else "any") for name, its in models.items()]
    screen.show(_table(("provider", "kind", "models"), shown))


@providers_app.command("grant")
def grant_provider(
    project_id: Project,
    provider: Annotated[str, typer.Argument(metavar="PROVIDER")],
    model: Annotated[list[str] | None, typer.Option(help="That it may use; several. By default all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let a project use a provider whose entry says `"access": "granted"`, or narrow the models it may use of another.

    \b
    Examples:
      lodestream admin providers grant support openai --model gpt-4o-mini
    """  # noqa: D301
    _of_a_project(project_id, lambda connection: provider_access.grant(connection, project_id, provider, model or []))
    if as_json:
        screen.show_json({"project_id": project_id, "provider": provider, "models": sorted(set(model or []))})
    else:
        screen.show(
            [Text(f"{inert(project_id)} may use {inert(', '.join(model or ['all models']))} of {inert(provider)}")]
        )


@providers_app.command("revoke")
def revoke_provider(
    project_id: Project, provider: Annotated[str, typer.Argument(metavar="PROVIDER")], as_json: AsJson = False
) -> None:
    """Take a grant back: within seconds workers make no further call by it. Ends with 1 when there was none.

    \b
    Examples:
      lodestream admin providers revoke support openai
    """  # noqa: D301
    if not in_postgres(lambda connection: provider_access.revoke(connection, project_id, provider)):
        raise Failure(f"project {project_id!r} has no grant of {provider!r}")
    if as_json:
        screen.show_json({"project_id": project_id, "provider": provider, "revoked": True})
    else:
        screen.show([Text(f"took the grant of {inert(provider)} from {inert(project_id)}")])


@caps_app.command("list")
def list_caps(
    project_id: Annotated[str | None, typer.Argument(metavar="[PROJECT]")] = None, as_json: AsJson = False
) -> None:
    """List the spending caps of a project, or of all, and what is spent of them.

    \b
    Examples:
      lodestream admin caps list
    """  # noqa: D301
    caps = in_postgres(lambda connection: provider_access.read_caps(connection, project_id))
    if as_json:
        screen.show_json({"caps": [_document(cap) for cap in caps]})
        return
    rows = [
        (
            cap.project_id, cap.period, in_dollars(cap.picodollars), in_dollars(cap.max_picodollars), f"{cap.tokens:,}",
            f"{cap.max_tokens:,}",
        )
        for cap in caps
    ]  # fmt: skip
    screen.show(_table(("project", "period", "spent", "of", "unpriced tokens", "of tokens"), rows))


@caps_app.command("set")
def set_cap(
    project_id: Project,
    period: Period,
    usd: Annotated[float, typer.Option(min=0, help="US dollars by the price table.")],
    tokens: Annotated[int, typer.Option(min=0, help="Of models without a price; by default they may not be used.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Cap what a project may spend on model calls in a day or a month; a run that comes to it ends with that reason.

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
    if as_json:
        screen.show_json({"project_id": project_id, "period": period, "max_usd": usd, "max_tokens": tokens})
    else:
        screen.show([Text(f"{inert(project_id)} may spend ${usd:,.2f} in a {period}")])


@caps_app.command("remove")
def remove_cap(project_id: Project, period: Period, as_json: AsJson = False) -> None:
    """Take a cap away. Ends with 1 when there was none.

    \b
    Examples:
      lodestream admin caps remove support --period day
    """  # noqa: D301
    _check_period(period)
    if not in_postgres(lambda connection: provider_access.remove_cap(connection, project_id, period)):
        raise Failure(f"project {project_id!r} has no cap for a {period}")
    if as_json:
        screen.show_json({"project_id": project_id, "period": period, "removed": True})
    else:
        screen.show([Text(f"{inert(project_id)} has no cap for a {period} any more")])


def _of_a_project(project_id: str, work: provider_access.Work) -> None:
    """Raises Failure when there is no such project."""

    async def do(connection: asyncpg.Connection) -> bool:
        try:
            await work(connection)
        except asyncpg.ForeignKeyViolationError:
            return False
        return True

    if not in_postgres(do):
        raise Failure(f"there is no project {project_id!r}: create it with `lodestream admin projects create`")


def _check_period(period: str) -> None:
    if period not in provider_access.PERIODS:
        raise typer.BadParameter("is day or month", param_hint="--period")


def _document(cap: Cap) -> dict[str, object]:
    return {
        "project_id": cap.project_id,
        "period": cap.period,
        "spent_usd": float(cap.picodollars / PICODOLLARS),
        "max_usd": float(cap.max_picodollars / PICODOLLARS),
        "spent_tokens": int(cap.tokens),
        "max_tokens": int(cap.max_tokens),
    }


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[Text]:
    return lay_out(
        [
            Column(title=title, cells=[Text(inert(row[rank])) for row in rows], rank=rank)
            for rank, title in enumerate(titles)
        ],
        screen.width(),
    )
