"""Prompts seen from the gateway: what a query service would say of them, how changes are told, and who reads."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.prompt_cache_pb2 import GetPromptHeadsRequest, GetPromptHeadsResponse, PromptHead
from lodestream_proto.v1.prompt_cache_pb2_grpc import (
    PromptCacheServiceServicer,
    add_PromptCacheServiceServicer_to_server,
)
from lodestream_proto.v1.prompts_pb2_grpc import (
    PromptServiceServicer,
    PromptServiceStub,
    add_PromptServiceServicer_to_server,
)

from shared.storage.prompt_cache import Miss, PromptCache
from tests.support.gateway import Door
from tests.support.polling import until

Context = grpc.aio.ServicerContext[Any, Any]


def head_of(name: str, revision: int, *, text: str = "", archived: bool = False, **labels: int) -> PromptHead:
    """A head whose versions say which they are; "latest" is the highest that a label points to."""
    labels = {**labels, "latest": max(labels.values(), default=1)}
    return PromptHead(
        name=name,
        revision=revision,
        archived=archived,
        latest_version=labels["latest"],
        labels=[pb.LabelHolder(label=label, version=version) for label, version in sorted(labels.items())],
        versions=[version_of(name, number, text) for number in sorted(set(labels.values()))],
    )


def version_of(name: str, number: int, text: str = "") -> pb.PromptVersion:
    """A version that says which it is."""
    return pb.PromptVersion(name=name, version=number, text=text or f"{name} v{number}", config_json="{}")


@dataclass
class Truth(PromptServiceServicer, PromptCacheServiceServicer):
    """A query service whose Postgres is a dictionary; it counts what it is asked."""

    projects: Mapping[str, str]
    """By the secret key."""
    heads: dict[tuple[str, str], PromptHead] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    """Heads by name, versions by name:version, positions that were waited for."""
    pause: float = 0.0
    """Seconds before each answer."""

    async def GetPromptHeads(self, request: GetPromptHeadsRequest, context: Context) -> GetPromptHeadsResponse:  # noqa: N802
        self.asked.update(request.names)
        project = await self._project(context)
        heads = [self.heads.get((project, name), PromptHead(name=name)) for name in request.names]
        return GetPromptHeadsResponse(heads=heads)

    async def GetPrompt(self, request: pb.GetPromptRequest, context: Context) -> pb.GetPromptResponse:  # noqa: N802
        project = await self._project(context)
        head = self.heads[project, request.prompt.name]
        if request.HasField("as_of") or request.wait_for.position:
            self.asked[request.wait_for.position or str(request.as_of.seconds)] += 1
            version = version_of(head.name, head.latest_version)
        else:
            self.asked[f"{request.prompt.name}:{request.prompt.version}"] += 1
            version = version_of(head.name, request.prompt.version)
        version.revision = head.revision
        version.labels[:] = [holder.label for holder in head.labels if holder.version == version.version]
        return pb.GetPromptResponse(prompt=version)

    async def _project(self, context: Context) -> str:
        await asyncio.sleep(self.pause)
        _, _, secret = str(dict(context.invocation_metadata() or ())["authorization"]).partition(" ")
        if secret not in self.projects:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the API key is unknown or revoked")
        return self.projects[secret]


def truth_of(projects: Mapping[str, str]) -> Truth:
    """One that has no prompts yet."""
    return Truth(projects)  # type: ignore[abstract]


@asynccontextmanager
async def serving(truth: Truth, port: int = 0) -> AsyncIterator[str]:
    """The query service's address."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_PromptServiceServicer_to_server(truth, server)
    add_PromptCacheServiceServicer_to_server(truth, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@dataclass(frozen=True, slots=True)
class Project:
    """A project's changes, as its projection makes them known: in Postgres, then in Redis."""

    project_id: str
    truth: Truth
    redis: PromptCache

    async def change(self, head: PromptHead, *, told: bool = True) -> None:
        """The prompt is like this from now on."""
        place = (self.project_id, head.name)
        self.truth.heads[place] = head
        if told:
            (looked,) = await self.redis.look([place])
            await self.redis.offer({place: (head, looked.ticket if isinstance(looked, Miss) else "")})


@dataclass(frozen=True, slots=True)
class Reader:
    """A client of one gateway."""

    door: Door
    address: str = ""
    """Of the gateway."""

    @asynccontextmanager
    async def apart(self) -> AsyncIterator["Reader"]:
        """The same client on a connection of its own."""
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200))
        async with grpc.aio.insecure_channel(self.address, options=options) as channel:
            yield Reader(replace(self.door, channel=channel), self.address)

    @property
    def prompts(self) -> Any:
        return PromptServiceStub(self.door.channel)

    async def get(self, name: str, *, timeout: float = 10, **which: Any) -> pb.PromptVersion:
        options = {key: which.pop(key) for key in ("as_of", "wait_for") if key in which}
        request = pb.GetPromptRequest(prompt=pb.PromptSelector(name=name, **which), **options)
        answer = await self.prompts.GetPrompt(request, metadata=self.door.bearer, timeout=timeout)
        found: pb.PromptVersion = answer.prompt
        return found

    async def get_many(self, *selectors: pb.PromptSelector) -> list[pb.PromptOutcome]:
        request = pb.GetPromptsRequest(prompts=selectors)
        answer = await self.prompts.GetPrompts(request, metadata=self.door.bearer, timeout=10)
        return list(answer.outcomes)

    def watch(self, *names: str, known: int = 0, **which: Any) -> Any:
        """An open stream."""
        prompts = [
            pb.WatchedPrompt(prompt=pb.PromptSelector(name=name, **which), known_revision=known) for name in names
        ]
        return self.prompts.WatchPrompts(pb.WatchPromptsRequest(prompts=prompts), metadata=self.door.bearer)

    async def sees(self, name: str, revision: int, *, within: float = 10) -> None:
        """Returns when the prompt is read at this revision."""

        async def at() -> bool:
            return (await self.get(name)).revision == revision

        await until(at, deadline=within, what=f"{name} at revision {revision}")
