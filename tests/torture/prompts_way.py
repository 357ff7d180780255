"""Prompts of two projects under the same names: versions, moves of labels that meet each other, and reads of them."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import grpc
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.prompt_event_pb2 import (
    ChatMessage,
    ChatPrompt,
    ChatPromptItem,
    PromptArchived,
    PromptLabelRolledBack,
    PromptLabelsMoved,
    PromptVersionCreated,
)
from lodestream_proto.v1.prompts_pb2_grpc import PromptServiceStub
from lodestream_proto.v1.query_pb2 import WaitFor

from tests.torture.contract import PROMPTS, content_of
from tests.torture.driver import Operation, Tenant, random_uuid, send
from tests.torture.ledger import Claim, Ledger
from tests.torture.ways import Answer, ask

_NAMES = [f"prompt-{n}" for n in range(4)] + ["support/greeting 🌈"]
_LABELS = ("production", "staging", "canary")
_DECIDED = {"ABORTED", "NOT_FOUND", "FAILED_PRECONDITION"}
"""The log has the command, and refused it."""


class PromptStory:
    """Commands about few prompts, so that they meet; some expect a revision, which then may no longer hold."""

    def __init__(self, rng: random.Random) -> None:
        self.random = rng
        """Whoever tells the story may draw from it, too."""
        self.revisions: dict[tuple[str, str], int] = defaultdict(int)
        """Of projects and names, as far as the teller knows."""
        self.versions: dict[tuple[str, str], int] = defaultdict(int)
        self._sent: list[tuple[str, Event]] = []

    def command(self, project: str) -> Event:
        """A command: something new, or one again under its id."""
        before = [event for its, event in self._sent if its == project]
        if before and self.random.random() < 0.06:
            return self.random.choice(before)
        event = self._draw(project)
        self._sent = [*self._sent, (project, event)][-100:]
        return event

    def _draw(self, project: str) -> Event:
        rng, name = self.random, self.random.choice(_NAMES)
        event = Event(event_id=random_uuid(rng))
        author, chance = f"{project} {rng.randrange(10**6)}", rng.random()
        if chance < 0.35:
            event.prompt_version_created.CopyFrom(self._version(project, name, author))
        elif chance < 0.8:
            version = rng.randint(0, self.versions[project, name] + 1)
            labels = rng.sample(_LABELS, rng.randint(1, 2))
            event.prompt_labels_moved.CopyFrom(
                PromptLabelsMoved(
                    prompt_name=name, version=version, labels=labels, author=author, **self._expected(project, name)
                )
            )
        elif chance < 0.95:
            label = rng.choice(_LABELS)
            event.prompt_label_rolled_back.CopyFrom(
                PromptLabelRolledBack(prompt_name=name, label=label, author=author, **self._expected(project, name))
            )
        else:
            event.prompt_archived.CopyFrom(PromptArchived(prompt_name=name, author=author))
        return event

    def _version(self, project: str, name: str, author: str) -> PromptVersionCreated:
        rng, content = self.random, dict[str, Any]()
        if (name[-1] in "13579") == (rng.random() < 0.95):  # the type of its prompt, nearly always
            said = ChatMessage(role="system", content=f"{project} says {rng.randbytes(rng.choice((8, 900))).hex()}")
            items = [ChatPromptItem(message=said), ChatPromptItem(placeholder="history")]
            content["chat"] = ChatPrompt(items=items)
        else:
            content["text"] = f"{project} says {rng.randbytes(rng.choice((8, 900))).hex()} {{{{name}}}}"
        return PromptVersionCreated(
            prompt_name=name,
            labels=rng.sample(_LABELS, rng.randint(0, 1)),
            tags=rng.choice(([], ["a", "ß"])),
            config_json=rng.choice(("", '{"temperature": 0.5}')),
            commit_message=rng.choice(("", "better")),
            author=author,
            **content,
        )

    def _expected(self, project: str, name: str) -> dict[str, int]:
        """Half of the moves expect a revision; of these a third one that is past."""
        revision = self.revisions[project, name]
        chance = self.random.random()
        if chance < 0.5 or not revision:
            return {}
        return {"expected_revision": max(1, revision - (chance > 0.83))}


class PromptsWriter:
    """Commands one after the other, and reads between them."""

    def __init__(
        self, channel: grpc.aio.Channel, tenants: Sequence[Tenant], rng: random.Random, ledger: Ledger
    ) -> None:
        self._tenants, self._ledger, self._story = tenants, ledger, PromptStory(rng)
        self._prompts: Any = PromptServiceStub(channel)

    def next(self) -> Operation:
        """For one of the projects."""
        tenant = self._story.random.choice(self._tenants)
        if self._story.random.random() < 0.3:
            return self._read(tenant)
        event = self._story.command(tenant.project)
        claim = claim_of(event)
        method, request = self._request(event)

        async def attempt(secret: str) -> Answer:
            return _with_verdict(await ask(method, request, secret))

        async def learn(answer: Answer) -> None:
            name = claim.content["prompt_name"]
            if revision := answer.answer.get("revision"):
                place = tenant.project, name
                self._story.revisions[place] = max(revision, self._story.revisions[place])
            if event.HasField("prompt_version_created") and "version" in answer.answer:
                self._story.versions[tenant.project, name] = answer.answer["version"]
                await self._read_back(tenant, event.prompt_version_created, answer)

        return Operation(tenant, [claim], attempt, learn)

    async def finish(self) -> None:
        """The last word about a prompt is a write, which no read of this program puts into a cache."""
        ended = asyncio.Event()
        ended.set()
        for tenant in self._tenants:
            created = PromptVersionCreated(
                prompt_name=_NAMES[0], text=f"{tenant.project} says goodbye", author=tenant.project
            )
            event = Event(event_id=random_uuid(self._story.random), prompt_version_created=created)
            method, request = self._request(event)

            async def attempt(secret: str, method: Any = method, request: Any = request) -> Answer:
                return _with_verdict(await ask(method, request, secret))

            await send(Operation(tenant, [claim_of(event)], attempt), self._ledger, ended)

    def _request(self, event: Event) -> tuple[Any, Any]:
        command = event.event_id
        match event.WhichOneof("payload"):
            case "prompt_version_created":
                request = pb.CreatePromptRequest(command_id=command, prompt=event.prompt_version_created)
                return self._prompts.CreatePrompt, request
            case "prompt_labels_moved":
                return self._prompts.MoveLabels, pb.MoveLabelsRequest(
                    command_id=command, move=event.prompt_labels_moved
                )
            case "prompt_label_rolled_back":
                roll_back = event.prompt_label_rolled_back
                return self._prompts.RollBackLabel, pb.RollBackLabelRequest(command_id=command, roll_back=roll_back)
        return self._prompts.ArchivePrompt, pb.ArchivePromptRequest(command_id=command, archive=event.prompt_archived)

    async def _read_back(self, tenant: Tenant, created: PromptVersionCreated, answer: Answer) -> None:
        """A read that waits for a write sees it; only an archival by somebody else may hide it."""
        version = answer.answer["version"]
        selector = pb.PromptSelector(name=created.prompt_name, version=version)
        wait = WaitFor(position=answer.position, timeout_ms=5_000)
        request = pb.GetPromptRequest(prompt=selector, wait_for=wait)
        read = await ask(self._prompts.GetPrompt, request, tenant.secret)
        if read.verdict != "acked":
            return
        found: pb.PromptVersion = read.response.prompt
        if (found.text, found.chat) != (created.text, created.chat) or found.version != version:
            self._ledger.object("a read after a write has another content", f"{tenant.project}: {selector}")
        if found.revision < answer.answer["revision"]:
            where = f"{tenant.project}: {selector} at {found.revision}, written at {answer.answer['revision']}"
            self._ledger.object("a read that waited for a write is older", where)

    def _read(self, tenant: Tenant) -> Operation:
        """What is read must be the tenant's own."""
        selectors = [pb.PromptSelector(name=name, label="latest") for name in _NAMES]

        async def attempt(secret: str) -> Answer:
            answer = await ask(self._prompts.GetPrompts, pb.GetPromptsRequest(prompts=selectors), secret)
            for outcome in answer.response.outcomes if answer.verdict == "acked" else ():
                if outcome.HasField("found") and not outcome.found.author.startswith(tenant.project):
                    self._ledger.object("a project read what is another's", f"{tenant.project}: {outcome.found}")
            return Answer("acked", code=answer.code, details=answer.details)  # a read is not tried again

        return Operation(tenant, [], attempt)


def claim_of(event: Event) -> Claim:
    """What a command claims."""
    kind = str(event.WhichOneof("payload"))
    return Claim(PROMPTS, kind, event.event_id, content_of(kind, getattr(event, kind).SerializeToString()))


def _with_verdict(answer: Answer) -> Answer:
    """A verdict is an answer, also one that refuses: the log has the command."""
    if answer.code in _DECIDED:
        return Answer("acked", code=answer.code, details=answer.details, answer={"refusal": answer.code})
    if answer.verdict != "acked":
        return answer
    response = answer.response
    said = {name: getattr(response, name) for name in ("version", "revision") if hasattr(response, name)}
    return Answer("acked", answer.position, response=response, answer=said)
