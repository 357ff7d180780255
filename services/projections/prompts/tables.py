"""Prompts and their rows, inside the fence's transaction."""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import asyncpg

from services.projections.prompts.commands import Command
from services.projections.prompts.decide import Decision, Held, Prompt
from shared.storage.postgres import load_sql

WAKE = "lodestream_prompts"
"""Notified when the outbox has grown."""
Place = tuple[str, str]
"""A project's id and a prompt's name."""
Identity = tuple[str, str, uuid.UUID]
"""Of a command: its place and its id."""

_SQL = Path(__file__).parent / "sql"
_LOAD_PROMPTS = load_sql(_SQL / "load_prompts.sql")
_LOAD_LABELS = load_sql(_SQL / "load_labels.sql")
_LOAD_COMMANDS = load_sql(_SQL / "load_commands.sql")
_UPSERT_PROMPT = load_sql(_SQL / "upsert_prompt.sql")
_INSERT_VERSION = load_sql(_SQL / "insert_version.sql")
_UPSERT_LABEL = load_sql(_SQL / "upsert_label.sql")
_INSERT_MOVE = load_sql(_SQL / "insert_move.sql")
_INSERT_COMMAND = load_sql(_SQL / "insert_command.sql")
_UPSERT_OUTBOX = load_sql(_SQL / "upsert_outbox.sql")


async def load(
    connection: asyncpg.Connection, commands: Sequence[Command]
) -> tuple[dict[Place, Prompt], set[Identity]]:
    """The prompts that commands are about, locked, as far as they exist; and which commands are decided already."""
    places = sorted({(command.project_id, command.prompt_name) for command in commands})
    columns = [list(column) for column in zip(*places, strict=True)]
    heads = await connection.fetch(_LOAD_PROMPTS, *columns)
    labels: dict[Place, dict[str, Held]] = defaultdict(dict)
    for row in await connection.fetch(_LOAD_LABELS, *columns):
        labels[row["project_id"], row["name"]][row["label"]] = Held(row["version"], row["previous_version"])
    prompts = {}
    for row in heads:
        place = row["project_id"], row["name"]
        prompts[place] = Prompt(
            name=row["name"], is_chat=row["is_chat"], latest_version=row["latest_version"], revision=row["revision"],
            archived=row["archived"], labels=labels[place], created_at=row["created_at"], updated_at=row["updated_at"],
        )  # fmt: skip
    identities = [(command.project_id, command.prompt_name, command.command_id) for command in commands]
    decided = await connection.fetch(_LOAD_COMMANDS, *(list(column) for column in zip(*identities, strict=True)))
    return prompts, {(row["project_id"], row["prompt_name"], row["command_id"]) for row in decided}


async def write(connection: asyncpg.Connection, decisions: Sequence[tuple[Command, Decision]]) -> None:
    """Write what was decided, in order, and put what changed into the outbox."""
    heads: dict[Place, Prompt] = {}
    labels: dict[tuple[str, str, str], Held] = {}
    versions, moves, verdicts = [], [], []
    for command, decision in decisions:
        place = command.project_id, command.prompt_name
        verdict, at = decision.verdict, decision.decided_at
        verdicts.append((
            command.project_id, command.command_id, command.prompt_name, command.kind,
            verdict.version, verdict.revision, verdict.refusal, verdict.reason, at,
        ))  # fmt: skip
        if decision.changed:
            heads[place] = decision.prompt
        if created := decision.created:
            body = created.SerializeToString(deterministic=True)
            versions.append((*place, created.version, verdict.revision, list(created.tags), at, body))
        for move in decision.moves:
            labels[(*place, move.label)] = decision.prompt.labels[move.label]
            author = command.payload.author
            moves.append((*place, verdict.revision, move.label, move.from_version, move.to_version, author, at))
    await connection.executemany(_INSERT_COMMAND, verdicts)
    await connection.executemany(_UPSERT_PROMPT, [
        (*place, head.is_chat, head.latest_version, head.revision, head.archived, head.created_at, head.updated_at)
        for place, head in sorted(heads.items())
    ])  # fmt: skip
    await connection.executemany(_INSERT_VERSION, versions)
    await connection.executemany(
        _UPSERT_LABEL, [(*place, held.version, held.previous) for place, held in labels.items()]
    )
    await connection.executemany(_INSERT_MOVE, moves)
    if heads:
        await connection.executemany(_UPSERT_OUTBOX, [(*place, head.revision) for place, head in sorted(heads.items())])
        await connection.execute("SELECT pg_notify($1, '')", WAKE)
