"""Prompts from their rows in Postgres: heads, for the cache and for answers."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
from lodestream_proto.v1.prompt_cache_pb2 import PromptHead
from lodestream_proto.v1.prompts_pb2 import LabelHolder, PromptVersion

from shared.storage.postgres import load_sql

MAX_CARRIED_BYTES = 256 * 1024
"""Of labelled versions in one head."""
_MAX_ANSWER_BYTES = 3 * 1024 * 1024
_READ_HEADS = load_sql(Path(__file__).parent / "sql" / "read_heads.sql")


async def read_heads(
    database: asyncpg.Pool | asyncpg.Connection, places: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], PromptHead]:
    """The heads of prompts (project, name) as they are now; revision 0 for those that are not."""
    found = {place: PromptHead(name=place[1]) for place in places}
    carried = min(MAX_CARRIED_BYTES, _MAX_ANSWER_BYTES // max(1, len(found)))
    columns = [list(column) for column in zip(*found, strict=True)] or [[], []]
    for row in await database.fetch(_READ_HEADS, *columns, carried):
        head = found[row["project_id"], row["name"]]
        head.revision, head.archived, head.latest_version = row["revision"], row["archived"], row["latest_version"]
        head.labels.extend(holders(row["labels"] or (), row["versions"] or ()))
        head.versions.extend(PromptVersion.FromString(body) for body in row["bodies"] or ())
    return found


def holders(labels: Iterable[str], versions: Iterable[Any]) -> list[LabelHolder]:
    """Labels and who holds them."""
    return [LabelHolder(label=label, version=version) for label, version in zip(labels, versions, strict=True)]
