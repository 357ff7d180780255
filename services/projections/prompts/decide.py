"""The log decides: (a prompt as it is, a command) → the prompt as it is then, the verdict, what changed. Pure.

A version's number is the count of creations. A label belongs to whoever moved it last. The revision counts what changed
the prompt: a command that finds everything as it asks is done, and changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from lodestream_proto.v1.prompt_event_pb2 import (
    PromptArchived,
    PromptLabelRolledBack,
    PromptLabelsMoved,
    PromptVersionCreated,
)
from lodestream_proto.v1.prompts_pb2 import (
    PROMPT_REFUSAL_CONFLICT,
    PROMPT_REFUSAL_NOT_FOUND,
    PROMPT_REFUSAL_OTHER_TYPE,
    PROMPT_REFUSAL_UNSPECIFIED,
    PromptVersion,
)

from services.projections.prompts.commands import Payload
from shared.storage.prompt_heads import LATEST


@dataclass(frozen=True, slots=True)
class Held:
    """A label: the version that holds it, and the one before its last move; 0 is none."""

    version: int
    previous: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt at a revision; revision 0 is a name without a prompt."""

    name: str
    is_chat: bool = False
    latest_version: int = 0
    revision: int = 0
    archived: bool = False
    labels: Mapping[str, Held] = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A label that changed hands."""

    label: str
    from_version: int
    to_version: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a command: the version created or pointed to, the prompt's revision after it, or why not."""

    version: int
    revision: int
    refusal: int = PROMPT_REFUSAL_UNSPECIFIED
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The prompt after a command, and what the command came to."""

    prompt: Prompt
    verdict: Verdict
    decided_at: datetime
    changed: bool = False
    created: PromptVersion | None = None
    moves: tuple[Move, ...] = ()


class _RefusedError(Exception):
    def __init__(self, refusal: int, reason: str) -> None:
        super().__init__(reason)
        self.refusal, self.reason = refusal, reason


def decide(prompt: Prompt, payload: Payload, appended_at: datetime) -> Decision:
    """What a command comes to; `appended_at` is the log's time of it."""
    at = max(appended_at, prompt.updated_at or appended_at)  # a broker's clock may be set back
    try:
        match payload:
            case PromptVersionCreated():
                return _create(prompt, payload, at)
            case PromptLabelsMoved():
                return _move(prompt, payload, at)
            case PromptLabelRolledBack():
                return _roll_back(prompt, payload, at)
            case PromptArchived():
                return _archive(prompt, at)
    except _RefusedError as refused:
        return Decision(prompt, Verdict(0, prompt.revision, refused.refusal, refused.reason), at)


def _create(prompt: Prompt, payload: PromptVersionCreated, at: datetime) -> Decision:
    is_chat = payload.WhichOneof("content") == "chat"
    if prompt.revision and prompt.is_chat != is_chat:
        here, there = ("chat", "text") if prompt.is_chat else ("text", "chat")
        raise _RefusedError(PROMPT_REFUSAL_OTHER_TYPE, f"prompt {prompt.name!r} is a {here} prompt, not {there}")
    version = prompt.latest_version + 1
    created = PromptVersion(
        name=prompt.name,
        version=version,
        config_json=payload.config_json,
        tags=payload.tags,
        commit_message=payload.commit_message,
        author=payload.author,
    )
    if is_chat:
        created.chat.CopyFrom(payload.chat)
    else:
        created.text = payload.text
    created.created_at.FromDatetime(at)
    grown = replace(
        prompt,
        is_chat=is_chat,
        latest_version=version,
        archived=False,
        created_at=prompt.created_at or at,
    )
    return _changed(grown, {*payload.labels, LATEST}, version, at, created=created)


def _move(prompt: Prompt, payload: PromptLabelsMoved, at: datetime) -> Decision:
    _demand(prompt, payload)
    if payload.version > prompt.latest_version:
        raise _RefusedError(PROMPT_REFUSAL_NOT_FOUND, f"prompt {prompt.name!r} has no version {payload.version}")
    return _changed(prompt, payload.labels, payload.version, at)


def _roll_back(prompt: Prompt, payload: PromptLabelRolledBack, at: datetime) -> Decision:
    _demand(prompt, payload)
    held = prompt.labels.get(payload.label)
    if held is None or not held.previous:
        raise _RefusedError(
            PROMPT_REFUSAL_NOT_FOUND, f"no version of prompt {prompt.name!r} held {payload.label!r} before"
        )
    return _changed(prompt, [payload.label], held.previous, at)


def _archive(prompt: Prompt, at: datetime) -> Decision:
    _demand(prompt)
    hidden = replace(prompt, archived=True, revision=prompt.revision + 1, updated_at=at)
    return Decision(hidden, Verdict(0, hidden.revision), at, changed=True)


def _demand(prompt: Prompt, payload: PromptLabelsMoved | PromptLabelRolledBack | None = None) -> None:
    """Raises unless there is such a prompt, at the revision that is expected."""
    if not prompt.revision:
        raise _RefusedError(PROMPT_REFUSAL_NOT_FOUND, f"there is no prompt {prompt.name!r}")
    if prompt.archived:
        raise _RefusedError(PROMPT_REFUSAL_NOT_FOUND, f"prompt {prompt.name!r} is archived")
    if payload and payload.HasField("expected_revision") and payload.expected_revision != prompt.revision:
        raise _RefusedError(
            PROMPT_REFUSAL_CONFLICT,
            f"prompt {prompt.name!r} is at revision {prompt.revision}, not {payload.expected_revision}",
        )


def _changed(
    prompt: Prompt, labels: Iterable[str], version: int, at: datetime, *, created: PromptVersion | None = None
) -> Decision:
    """The labels at the version; a new revision if anything is other than it was."""
    none = Held(0, 0)
    moves = tuple(
        Move(label, held.version, version)
        for label in sorted(set(labels))
        if (held := prompt.labels.get(label, none)).version != version
    )
    if not moves:
        return Decision(prompt, Verdict(version, prompt.revision), at)
    moved = {move.label: Held(version, move.from_version) for move in moves}
    after = replace(prompt, labels={**prompt.labels, **moved}, revision=prompt.revision + 1, updated_at=at)
    return Decision(after, Verdict(version, after.revision), at, changed=True, created=created, moves=moves)
