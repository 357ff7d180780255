"""A revoked key's streams end, idle or not, at both ports; streams of the project's other keys go on."""

import asyncio
from typing import Any

import asyncpg
import grpc
from lodestream_proto.v1.query_pb2 import ListTracesRequest
from lodestream_proto.v1.query_pb2_grpc import QueryServiceStub

from shared.auth.keys import NewKey, revoke_key
from shared.storage.postgres import SEARCH_PATH
from tests.conftest import StartService
from tests.support.experiment_records import folding_experiments, record, requested
from tests.support.gateway import MODULE, bearer, new_key
from tests.support.polling import until
from tests.support.tenancy import GATEWAY, QUERY, REQUESTS, RUN, Owned, answering_ports, rpcs

STREAMS = {path: method for path, method in rpcs().items() if method.server_streaming}


async def test_every_open_stream_ends_when_its_key_is_revoked(database: str, service: StartService) -> None:
    environment = {"LODESTREAM_POSTGRES": database, "LODESTREAM_KEYS_RECHECK_SECONDS": "2"}
    query = await service("services.read.query", **environment)
    gateway = await service(MODULE, LODESTREAM_QUERY=query.address, **environment)
    revoked, kept = await new_key(database), await new_key(database)
    async with folding_experiments(database) as projection:
        await projection.fold(record(requested(RUN), 0, project="acme"))
    async with (
        grpc.aio.insecure_channel(gateway.address) as to_gateway,
        grpc.aio.insecure_channel(query.address) as to_query,
    ):
        channels = {GATEWAY: to_gateway, QUERY: to_query}
        ends = {name: _open_all(channels, key) for name, key in (("revoked", revoked), ("kept", kept))}
        for channel in channels.values():
            for key in (revoked, kept):
                await QueryServiceStub(channel).ListTraces(ListTracesRequest(), metadata=bearer(key), timeout=60)
        assert not [path for streams in ends.values() for path, end in streams.items() if end.done()]
        connection = await asyncpg.connect(database, server_settings={"search_path": SEARCH_PATH})
        assert await revoke_key(connection, revoked.public_key)
        await connection.close()
        open_streams = ends["revoked"].values()
        await until(lambda: all(end.done() for end in open_streams), deadline=60, what="the revoked key's streams")
        assert {end.result() for end in open_streams} == {grpc.StatusCode.UNAUTHENTICATED}
        assert not [path for path, end in ends["kept"].items() if end.done()]
        for end in ends["kept"].values():
            end.cancel()


async def _end(stream: Any) -> grpc.StatusCode:
    """How a stream ends that is read from."""
    try:
        while await stream.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def _open_all(
    channels: dict[str, grpc.aio.Channel], key: NewKey
) -> dict[tuple[str, str], asyncio.Task[grpc.StatusCode]]:
    """Each stream of the contract at each port, as its end."""
    owned, ends = Owned("acme", 1, "", ""), {}
    for path, method in STREAMS.items():
        request = b"" if method.client_streaming else REQUESTS[method.name](owned)[0].SerializeToString()
        for port in answering_ports(method):
            kind: Any = channels[port].stream_stream if method.client_streaming else channels[port].unary_stream
            arguments = () if method.client_streaming else (request,)
            ends[port, path] = asyncio.create_task(_end(kind(path)(*arguments, metadata=bearer(key))))
    return ends
