"""Every RPC, at both ports: nothing without a good key, and nothing of another project by any of its ids."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.message import Message

from shared.auth.keys import NewKey, create_key, make_secret, revoke_key
from shared.event_log.topics import TOPICS
from tests.support.log_access import ends
from tests.support.polling import until
from tests.support.records import span
from tests.support.servers import Servers
from tests.support.stack import Stack
from tests.support.tenancy import (
    CANARY,
    GATEWAY,
    QUERY,
    REQUESTS,
    WITHOUT_CONTENT,
    WRITES,
    Metadata,
    Owned,
    answering_ports,
    call,
    own,
    ports,
    rpcs,
)

RPCS = rpcs()
ELSEWHERE = (
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.channelz.v1.Channelz/GetServers",
)
"""Well-known methods that neither port has."""
OK = grpc.StatusCode.OK


@dataclass(frozen=True, slots=True)
class Tenants:
    """The stack, both its ports, and what "acme" owns."""

    stack: Stack
    channels: Mapping[str, grpc.aio.Channel]
    owned: Owned

    async def ask(self, port: str, path: str, request: Any, metadata: Metadata) -> tuple[grpc.StatusCode, bytes]:
        """The status, and all that was told with it."""
        try:
            answer = await call(self.channels[port], RPCS[path], request, metadata)
            return OK, answer.SerializeToString()
        except grpc.aio.AioRpcError as error:
            return error.code(), f"{error.details()} {error.trailing_metadata()}".encode()

    def requests(self, *, writes: bool) -> Iterator[tuple[str, str, Message]]:
        """What is asked of each RPC that writes, or that reads, and where."""
        for path, method in RPCS.items():
            if (method.name in WRITES) != writes:
                continue
            for port in ports(method) if writes else answering_ports(method):
                for request in REQUESTS[method.name](self.owned):
                    yield port, path, request

    async def rows(self) -> dict[str, list[str]]:
        """All rows of acme's, as texts."""
        connection = await asyncpg.connect(self.stack.dsn)
        try:
            found = {}
            for (table,) in await connection.fetch(_TABLES_OF_PROJECTS):
                rows = f"SELECT t::text AS row FROM {table} AS t WHERE project_id = $1 ORDER BY 1"
                found[table] = [row["row"] for row in await connection.fetch(rows, self.owned.project_id)]
            return found
        finally:
            await connection.close()


_TABLES_OF_PROJECTS = """
SELECT format('%I.%I', table_schema, table_name) FROM information_schema.columns
JOIN information_schema.tables USING (table_schema, table_name)
WHERE column_name = 'project_id' AND table_type = 'BASE TABLE' AND table_schema <> 'information_schema'
"""


@pytest.fixture(scope="module")
async def tenants(shared_stack: Stack) -> AsyncIterator[Tenants]:
    address = shared_stack.query_service.command.address
    async with grpc.aio.insecure_channel(address) as query:
        owned = await own(shared_stack, "acme")
        yield Tenants(shared_stack, {GATEWAY: shared_stack.channel, QUERY: query}, owned)


def test_every_rpc_of_the_contract_is_in_the_matrix() -> None:
    assert {method.name for method in RPCS.values()} == set(REQUESTS)


async def test_no_rpc_is_answered_without_a_good_key(tenants: Tenants) -> None:
    """Whatever the bytes of the request are: the key is checked first, and quietly."""
    acme, other = tenants.stack.keys["acme"], tenants.stack.keys["other"]
    headers = _bad_authorizations(acme, other, revoked=await _revoked_key(tenants.stack.dsn))
    turns = asyncio.Semaphore(32)

    async def refused(port: str, path: str, name: str, metadata: Metadata) -> tuple[Any, ...] | None:
        async with turns:
            code, told = await tenants.ask(port, path, b"\xff\xff", metadata)
        wanted = grpc.StatusCode.UNAUTHENTICATED if port in ports(RPCS[path]) else grpc.StatusCode.UNIMPLEMENTED
        return None if code == wanted else (port, path, name, code, told)

    outcomes = await asyncio.gather(
        *(
            refused(port, path, name, metadata)
            for port in tenants.channels
            for path in RPCS
            for name, metadata in headers.items()
        )
    )
    assert not [outcome for outcome in outcomes if outcome]
    for process in (tenants.stack.gateway, tenants.stack.query_service):
        log = process.log.read_text()
        assert "Traceback" not in log, log
        assert not any(key.secret_key in log for key in (acme, other))


@pytest.mark.parametrize("port", [GATEWAY, QUERY])
async def test_a_port_serves_nothing_that_is_not_in_the_matrix(tenants: Tenants, port: str) -> None:
    for path in ELSEWHERE:
        unknown: Any = tenants.channels[port].unary_unary(path)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await unknown(b"", timeout=10)
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_another_projects_ids_show_nothing(tenants: Tenants) -> None:
    unseen, seen, unexpected = [], [], []
    async with _News(tenants.stack):
        for port, path, request in tenants.requests(writes=False):
            code, told = await tenants.ask(port, path, request, tenants.stack.metadata())
            if code != OK or (_CANARY not in told and RPCS[path].name not in WITHOUT_CONTENT):
                unseen.append((port, path, code, told))  # the request is none that anybody learns something by
            code, told = await tenants.ask(port, path, request, tenants.stack.metadata("other"))
            if _CANARY in told:
                seen.append((port, path, told))
            if code not in ANSWERS:
                unexpected.append((port, path, code, told))
    assert (unseen, seen, unexpected) == ([], [], [])


async def test_a_crafted_page_token_is_refused_by_name(tenants: Tenants) -> None:
    """Each key of each list's token is replaced by what no column holds, and by what one may hold."""
    unexpected = []
    for path, method in RPCS.items():
        if "page_token" not in method.input_type.fields_by_name:
            continue
        (second,) = [request for request in REQUESTS[method.name](tenants.owned) if request.page_token]
        others = [token for name, token in tenants.owned.pages.items() if name != method.name]
        for token in [*_crafted(second.page_token), *others, "nonsense", "bm9uc2Vuc2U", "\0", "é"]:
            second.page_token = token
            code, told = await tenants.ask(QUERY, path, second, tenants.stack.metadata())
            refused = code == grpc.StatusCode.INVALID_ARGUMENT and told.startswith(b"page_token: ")
            if not refused and (code != OK or token in others):
                unexpected.append((path, token, code, told))
    assert not unexpected


async def test_another_projects_ids_change_nothing(tenants: Tenants, servers: Servers) -> None:
    before = await tenants.rows()
    unexpected = []
    for port, path, request in tenants.requests(writes=True):
        code, told = await tenants.ask(port, path, request, tenants.stack.metadata("other"))
        if _CANARY in told or code not in (UNANSWERED if port == QUERY else ANSWERS):
            unexpected.append((port, path, code, told))
    assert not unexpected
    await until(lambda: _all_folded(tenants.stack.dsn, servers.kafka), what="the projections at the ends of the log")
    assert await tenants.rows() == before


_CANARY = CANARY.encode()
UNANSWERED = {grpc.StatusCode.UNIMPLEMENTED}
ANSWERS = {
    OK,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
}


def _bad_authorizations(acme: NewKey, other: NewKey, *, revoked: NewKey) -> dict[str, Metadata]:
    def basic(pair: bytes) -> str:
        return f"Basic {base64.b64encode(pair).decode()}"

    good = f"Bearer {acme.secret_key}"
    values = {
        "wrong": f"Bearer {make_secret()}",
        "mistyped": f"{good[:-1]}{'a' if good[-1] != 'a' else 'b'}",
        "public alone": f"Bearer {acme.public_key}",
        "public and nothing": basic(f"{acme.public_key}:".encode()),
        "public and public": basic(f"{acme.public_key}:{acme.public_key}".encode()),
        "nothing and secret": basic(f":{acme.secret_key}".encode()),
        "crossed": basic(f"{acme.public_key}:{other.secret_key}".encode()),
        "crossed the other way": basic(f"{other.public_key}:{acme.secret_key}".encode()),
        "revoked": f"Bearer {revoked.secret_key}",
        "revoked pair": basic(f"{revoked.public_key}:{revoked.secret_key}".encode()),
        "empty": "",
        "bare Bearer": "Bearer",
        "bare Basic": "Basic ",
        "no scheme": acme.secret_key,
        "other scheme": f"Token {acme.secret_key}",
        "two secrets": f"{good} {other.secret_key}",
        "no base64": "Basic !!!",
        "no text": basic(b"\xff\xfe:\xff"),
        "no colon": basic(acme.secret_key.encode()),
        "too long": f"Bearer {'x' * 5000}",
    }
    headers: dict[str, Metadata] = {name: (("authorization", value),) for name, value in values.items()}
    headers["none"] = ()
    headers["another header"] = (("x-authorization", good),)
    headers["two headers"] = (("authorization", "Bearer x"), ("authorization", good))
    return headers


_HOSTILE = ["\0", "", "x" * 10_000, 0, -1, 2**31, 2**62, -(2**62), 2**64, 1e300, None, True, [], {}, "\ud800"]


def _crafted(token: str) -> list[str]:
    """The token with each of its keys replaced; none for what is no token."""
    try:
        fingerprint, *keys = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except ValueError:
        return []
    lists = [[*keys[:n], hostile, *keys[n + 1 :]] for n in range(len(keys)) for hostile in _HOSTILE]
    lists += [keys[:-1], [*keys, 0]]
    written = [json.dumps([fingerprint, *keys]).encode() for keys in lists] + [b"\xff\xfe", b'["' + b"[" * 5_000]
    return [base64.urlsafe_b64encode(each).decode().rstrip("=") for each in written]


async def _revoked_key(dsn: str) -> NewKey:
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "lodestream"})
    try:
        key = await create_key(connection, "acme")
        assert await revoke_key(connection, key.public_key)
        return key
    finally:
        await connection.close()


class _News:
    """A trace of "acme", then one of "other", again and again: something for their streams."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._tell())

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _tell(self) -> None:
        number = 0
        while True:
            number += 1
            for project, name in (("acme", CANARY), ("other", "news")):
                await self._stack.export(span(0xAE35 + number, 1, name=name), project=project)
            await asyncio.sleep(0.1)


async def _all_folded(dsn: str, kafka: str) -> bool:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT topic, partition, next_offset FROM lodestream.projection_positions")
    finally:
        await connection.close()
    folded = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
    log = {
        (topic.name, partition): end for topic in TOPICS for partition, end in (await ends(kafka, topic.name)).items()
    }
    return all(folded.get(place, 0) >= end for place, end in log.items())
