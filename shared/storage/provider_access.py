"""Which providers and models a project may use, and how much it may spend on them: control data in Postgres.

Without grants and caps every project may use what workers offer, but for providers that are for granted projects only.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import asyncpg

Work = Callable[[asyncpg.Connection], Awaitable[None]]
PERIODS = ("day", "month")
PICODOLLARS = 10**12
"""In a US dollar."""
_ACCESS = """
SELECT offered.provider, offered.kind, offered.models, grants.models AS granted_models
FROM lodestream.providers AS offered
LEFT JOIN lodestream.provider_grants AS grants ON grants.project_id = $1 AND grants.provider = offered.provider
WHERE offered.offered_until > now() AND (NOT offered.granted_only OR grants.provider IS NOT NULL)
ORDER BY offered.provider
"""
_CAPS = """
SELECT
    caps.project_id, caps.period, caps.max_picodollars, caps.max_tokens, coalesce(spent.picodollars, 0) AS picodollars,
    coalesce(spent.tokens, 0) AS tokens
FROM lodestream.spending_caps AS caps
LEFT JOIN lodestream.spending AS spent
    ON spent.project_id = caps.project_id AND spent.period = caps.period
    AND spent.begins_on = date_trunc(caps.period, now() AT TIME ZONE 'UTC')::date
WHERE $1::text IS NULL OR caps.project_id = $1
ORDER BY caps.project_id, caps.period
"""


@dataclass(frozen=True, slots=True)
class Access:
    """What a project may use of one provider."""

    kind: str
    models: frozenset[str] | None
    """None: any."""

    def why_not(self, model: str) -> str:
        """Why the project may not use a model; empty: it may."""
        if self.models is None or model in self.models:
            return ""
        return f"the project may use {', '.join(sorted(self.models)) or 'no model'} of it, not {model!r:.100}"


@dataclass(frozen=True, slots=True)
class Cap:
    """What a project may spend in a period, and has spent in the present one. Tokens are those of unpriced models."""

    project_id: str
    period: str
    max_picodollars: Decimal
    max_tokens: Decimal
    picodollars: Decimal
    tokens: Decimal

    def why_reached(self, picodollars: int = 0, tokens: int = 0) -> str:
        """Why no further call may be made that costs so much; empty: it may. A call costs something in any case."""
        if tokens and self.tokens + tokens > self.max_tokens:
            return f"the project may use {self.max_tokens:,} tokens of models without a price in a {self.period}"
        if self.picodollars + picodollars > self.max_picodollars or (
            not tokens and self.picodollars >= self.max_picodollars
        ):
            return f"the project may spend {in_dollars(self.max_picodollars)} in a {self.period}"
        return ""


def in_dollars(picodollars: Decimal) -> str:
    """As people write it, whole cents or not: "$5", "$0.0006"."""
    return f"${(picodollars / PICODOLLARS).normalize():f}"


async def read_access(database: Any, project_id: str) -> Mapping[str, Access]:
    """What the project may use of what workers offer now, by provider; `database` is a connection or a pool."""
    return {
        row["provider"]: Access(row["kind"], _models(row["models"], row["granted_models"]))
        for row in await database.fetch(_ACCESS, project_id)
    }


async def read_caps(database: Any, project_id: str | None) -> Sequence[Cap]:
    """The caps of a project, or of all; `database` is a connection or a pool."""
    return [Cap(*row) for row in await database.fetch(_CAPS, project_id)]


async def grant(connection: asyncpg.Connection, project_id: str, provider: str, models: Sequence[str]) -> None:
    """Let a project use a provider: these models of it, or all that it has.

    Raises asyncpg.ForeignKeyViolationError when there is no such project.
    """
    await connection.execute(
        "INSERT INTO lodestream.provider_grants (project_id, provider, models) VALUES ($1, $2, $3)"
        " ON CONFLICT (project_id, provider) DO UPDATE SET models = excluded.models",
        project_id, provider, sorted(set(models)),
    )  # fmt: skip


async def revoke(connection: asyncpg.Connection, project_id: str, provider: str) -> bool:
    """Take a grant back; False: there was none."""
    done = await connection.execute(
        "DELETE FROM lodestream.provider_grants WHERE project_id = $1 AND provider = $2", project_id, provider
    )
    return bool(done != "DELETE 0")


async def set_cap(
    connection: asyncpg.Connection, project_id: str, period: str, *, picodollars: Decimal, tokens: int
) -> None:
    """Cap what a project may spend in a period.

    Raises asyncpg.ForeignKeyViolationError when there is no such project.
    """
    await connection.execute(
        "INSERT INTO lodestream.spending_caps (project_id, period, max_picodollars, max_tokens) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (project_id, period) DO UPDATE SET"
        " max_picodollars = excluded.max_picodollars, max_tokens = excluded.max_tokens",
        project_id, period, picodollars, tokens,
    )  # fmt: skip


async def remove_cap(connection: asyncpg.Connection, project_id: str, period: str) -> bool:
    """Take a cap away; False: there was none."""
    done = await connection.execute(
        "DELETE FROM lodestream.spending_caps WHERE project_id = $1 AND period = $2", project_id, period
    )
    return bool(done != "DELETE 0")


def _models(offered: Sequence[str], granted: Sequence[str] | None) -> frozenset[str] | None:
    if offered and granted:
        return frozenset(offered) & frozenset(granted)
    return frozenset(granted or offered) or None
