"""A gateway killed at any moment: what it acknowledged is there, what it did not is sent again, and nothing is lost."""

import grpc
import pytest

from tests.conftest import StartService
from tests.support.gateway import MODULE, new_key, opened, refusal, request_of, spans_in
from tests.support.log_access import ends, read_range
from tests.support.records import span
from tests.support.servers import Servers


@pytest.mark.parametrize(("failpoint", "copies"), [("gateway.checked", 1), ("gateway.acked", 2)])
async def test_a_killed_gateways_request_is_sent_again(
    servers: Servers, database: str, service: StartService, failpoint: str, copies: int
) -> None:
    """Killed before the log has it: once. Between the log's acknowledgement and the reply: twice, the same spans."""
    key = await new_key(database)
    request = request_of(span(0xFEED, 1), span(0xFEED, 2))
    before = await ends(servers.kafka)
    doomed = await service(MODULE, LODESTREAM_POSTGRES=database, LODESTREAM_FAILPOINTS=f"{failpoint}=kill")
    async with opened(doomed.address, key) as door:
        error = await refusal(door.export(request))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert await doomed.process.ended() == -9
    port = int(doomed.address.rpartition(":")[2])
    again = await service(MODULE, port=port, LODESTREAM_POSTGRES=database)
    async with opened(again.address, key) as door:
        await door.export(request)
    records = [record for record in await read_range(servers.kafka, before) if record.event]
    assert len(records) == copies
    for record in records:
        assert [found.span_id for found in spans_in(record)] == [span(0xFEED, n).span_id for n in (1, 2)]
    assert len({record.partition for record in records}) == 1
