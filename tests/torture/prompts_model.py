"""What the prompts read model and Redis must say of the log: a fold by docs/decisions/0015 and 0016."""

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from redis.asyncio import Redis

from tests.torture.contract import PROMPT_HEAD, PROMPT_VERSION, PROMPTS, Content, LogEvent, read_message, readable
from tests.torture.findings import Finding, Kind
from tests.torture.ledger import Sent
from tests.torture.model import Table, Tables, by_partition, fetch_table, us

_DONE, _CONFLICT, _NOT_FOUND, _OTHER_TYPE = 0, 1, 2, 3  # lodestream_proto.v1.PromptRefusal
_REFUSALS = {"ABORTED": _CONFLICT, "NOT_FOUND": _NOT_FOUND, "FAILED_PRECONDITION": _OTHER_TYPE}
_CARRIED = ("config_json", "tags", "commit_message", "author")
_COMMANDS = "prompts.prompt_commands"


@dataclass(slots=True)
class _Prompt:
    is_chat: bool = False
    latest: int = 0
    revision: int = 0
    archived: bool = False
    created_us: int = 0
    updated_us: int = 0
    labels: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The version that holds each, and the one before its last move; 0 is none."""


@dataclass(frozen=True, slots=True)
class _Command:
    """A command, the project and name of its prompt, and when it is decided."""

    event: LogEvent
    place: tuple[str, str]
    at_us: int


class _RefusedError(Exception):
    pass


def expected_prompts(events: Iterable[LogEvent]) -> Tables:
    """Every command decided in the order of the log, and what came of it."""
    names = ("prompts", "prompt_versions", "prompt_labels", "prompt_label_moves", "prompt_commands")
    tables: Tables = {f"prompts.{name}": Table() for name in names}
    prompts: dict[tuple[str, str], _Prompt] = {}
    for event in by_partition(readable(list(events))):
        place = event.project, event.content["prompt_name"]
        command = event.project, uuid.UUID(event.event_id), place[1]
        if command not in tables[_COMMANDS]:
            _decide(prompts.setdefault(place, _Prompt()), event, place, tables)
    for place, prompt in prompts.items():
        if prompt.revision:
            tables["prompts.prompts"][place] = {
                "is_chat": prompt.is_chat, "latest_version": prompt.latest, "revision": prompt.revision,
                "archived": prompt.archived, "created_at_us": prompt.created_us, "updated_at_us": prompt.updated_us,
            }  # fmt: skip
        for label, (version, previous) in prompt.labels.items():
            tables["prompts.prompt_labels"][*place, label] = {"version": version, "previous_version": previous}
    return tables


async def read_prompts(connection: asyncpg.Connection, projects: Sequence[str]) -> Tables:
    """What the tables hold now, with versions as their bytes say them."""
    found = {
        name: await fetch_table(connection, f"SELECT {columns} FROM {name} WHERE project_id = ANY ($1)", projects, *key)
        for name, (columns, key) in _QUERIES.items()
    }
    for key, row in found["prompts.prompt_versions"].items():
        found["prompts.prompt_versions"][key] = {**row, "body": read_message(row["body"], PROMPT_VERSION)}
    return found


def judge_verdicts(history: Sequence[Sent], expected: Tables) -> Iterator[Finding]:
    """What the gateway answered a command is what the log decided of it."""
    for sent in history:
        for claim in sent.claims:
            if claim.topic != PROMPTS or sent.verdict != "acked" or not sent.answer:
                continue
            command = sent.project, uuid.UUID(claim.event_id), claim.content["prompt_name"]
            decided = expected[_COMMANDS].get(command)
            if decided is None:
                continue  # not in the log at all, which judge_events finds
            refusal = _REFUSALS.get(sent.answer.get("refusal", ""), _DONE)
            answered = {"refusal": refusal, **{k: v for k, v in sent.answer.items() if k != "refusal"}}
            if any(decided[name] != value for name, value in answered.items()):
                what = "another verdict than the log's"
                yield Finding(Kind.OUT_OF_PROMISE, what, f"{sent.number}: {answered}, decided: {dict(decided)}")


@dataclass(frozen=True, slots=True)
class Heads:
    """What Redis holds of prompts: the revision and the head's content, and the names that wait to be told."""

    found: Mapping[tuple[str, str], tuple[int, Content]]
    waiting: Sequence[tuple[str, str]]


async def read_heads(connection: asyncpg.Connection, redis: str, expected: Tables) -> Heads:
    """Of the prompts that the log tells of, those that this run of the server was told."""
    client: Any = Redis.from_url(redis)
    found: dict[tuple[str, str], tuple[int, Content]] = {}
    try:
        run = (await client.info("server"))["run_id"]
        for project, name in expected["prompts.prompts"]:
            key = f"lodestream:prompt:{{{project}:{hashlib.sha256(name.encode()).hexdigest()}}}"
            its_run, revision, body = await client.hmget(key, "run", "rev", "body")
            if revision is not None and its_run.decode() == run:
                found[project, name] = int(revision), read_message(body, PROMPT_HEAD)
    finally:
        await client.aclose()
    rows = await connection.fetch("SELECT project_id, name FROM prompts.prompt_outbox")
    return Heads(found, [(row["project_id"], row["name"]) for row in rows])


def judge_heads(heads: Heads, expected: Tables) -> Iterator[Finding]:
    """Once all is folded Redis is where Postgres is, or knows nothing."""
    for place in heads.waiting:
        yield Finding(Kind.LOST, "decided, and Redis was not told in time", "/".join(place))
    labels: dict[tuple[str, str], dict[str, int]] = {}
    for (project, name, label), row in expected["prompts.prompt_labels"].items():
        if row["version"]:
            labels.setdefault((project, name), {})[label] = row["version"]
    for place, (revision, head) in heads.found.items():
        prompt, where = expected["prompts.prompts"][place], "/".join(place)
        if revision < prompt["revision"]:
            where = f"{where}: {revision} for {prompt['revision']}"
            yield Finding(Kind.OUT_OF_PROMISE, "a head in Redis that is older than Postgres", where)
            continue
        says = {
            "revision": head.get("revision", 0),
            "archived": head.get("archived", False),
            "latest_version": head.get("latest_version", 0),
            "labels": {holder["label"]: holder["version"] for holder in head.get("labels", [])},
        }
        wanted = {name: prompt[name] for name in ("revision", "archived", "latest_version")}
        if says != wanted | {"labels": labels.get(place, {})}:
            yield Finding(Kind.ALTERED, "a head in Redis that is not what the log says", f"{where}: {says}")
        for version in head.get("versions", []):
            known = expected["prompts.prompt_versions"].get((*place, version["version"]))
            if known is None or known["body"] != version:
                yield Finding(Kind.ALTERED, "a version in Redis that is not what the log says", f"{where}: {version}")


def _decide(prompt: _Prompt, event: LogEvent, place: tuple[str, str], tables: Tables) -> None:
    command = _Command(event, place, max(event.appended_us, prompt.updated_us))
    version, refusal = 0, _DONE
    try:
        version = _carry_out(prompt, command, tables)
    except _RefusedError as refused:
        (refusal,) = refused.args
    tables[_COMMANDS][event.project, uuid.UUID(event.event_id), place[1]] = {
        "kind": event.kind, "version": version, "revision": prompt.revision, "refusal": refusal,
        "has_reason": refusal != _DONE, "decided_at_us": command.at_us,
    }  # fmt: skip


def _carry_out(prompt: _Prompt, command: _Command, tables: Tables) -> int:
    """The version that the verdict names.

    Raises _RefusedError.
    """
    event, content = command.event, command.event.content
    if event.kind == "prompt_version_created":
        return _create(prompt, command, tables)
    if not prompt.revision or prompt.archived:
        raise _RefusedError(_NOT_FOUND)
    if event.kind == "prompt_archived":
        prompt.archived, prompt.revision, prompt.updated_us = True, prompt.revision + 1, command.at_us
        return 0
    if content.get("expected_revision", prompt.revision) != prompt.revision:
        raise _RefusedError(_CONFLICT)
    if event.kind == "prompt_labels_moved":
        version = int(content.get("version", 0))
        if version > prompt.latest:
            raise _RefusedError(_NOT_FOUND)
        return _move(prompt, content["labels"], version, command, tables)
    previous = prompt.labels.get(content["label"], (0, 0))[1]
    if not previous:
        raise _RefusedError(_NOT_FOUND)
    return _move(prompt, [content["label"]], previous, command, tables)


def _create(prompt: _Prompt, command: _Command, tables: Tables) -> int:
    content, at = command.event.content, command.at_us
    if prompt.revision and prompt.is_chat != ("chat" in content):
        raise _RefusedError(_OTHER_TYPE)
    prompt.is_chat, prompt.archived = "chat" in content, False
    prompt.latest += 1
    prompt.created_us = prompt.created_us or at
    tables["prompts.prompt_versions"][*command.place, prompt.latest] = {
        "revision": prompt.revision + 1,
        "tags": content.get("tags", []),
        "created_at_us": at,
        "body": _body(content, command.place[1], prompt.latest, at),
    }
    return _move(prompt, {*content.get("labels", []), "latest"}, prompt.latest, command, tables)


def _move(prompt: _Prompt, labels: Iterable[str], version: int, command: _Command, tables: Tables) -> int:
    """Let labels point to a version; a new revision if any of them did not."""
    moved = {label: prompt.labels.get(label, (0, 0))[0] for label in labels}
    moved = {label: before for label, before in moved.items() if before != version}
    if moved:
        prompt.revision, prompt.updated_us = prompt.revision + 1, command.at_us
    for label, before in moved.items():
        prompt.labels[label] = version, before
        tables["prompts.prompt_label_moves"][*command.place, prompt.revision, label] = {
            "from_version": before,
            "to_version": version,
            "author": command.event.content.get("author", ""),
            "moved_at_us": command.at_us,
        }
    return version


def _body(content: Content, name: str, version: int, at: int) -> Content:
    seconds, rest = divmod(at, 1_000_000)
    created_at = {"seconds": seconds, **({"nanos": rest * 1000} if rest else {})}
    kept = {each: content[each] for each in ("text", "chat", *_CARRIED) if each in content}
    return {"name": name, "version": version, **kept, "created_at": created_at}


_QUERIES = {
    "prompts.prompts": (
        f"project_id, name, is_chat, latest_version, revision, archived, {us('created_at')}, {us('updated_at')}",
        ("project_id", "name"),
    ),
    "prompts.prompt_versions": (
        f"project_id, name, version, revision, tags, {us('created_at')}, body", ("project_id", "name", "version"),
    ),
    "prompts.prompt_labels": (
        "project_id, name, label, version, previous_version", ("project_id", "name", "label"),
    ),
    "prompts.prompt_label_moves": (
        f"project_id, name, revision, label, from_version, to_version, author, {us('moved_at')}",
        ("project_id", "name", "revision", "label"),
    ),
    _COMMANDS: (
        "project_id, command_id, prompt_name, kind, version, revision, refusal, reason <> '' AS has_reason, "
        + us("decided_at"),
        ("project_id", "command_id", "prompt_name"),
    ),
}  # fmt: skip
"""Columns and primary key of each table."""
