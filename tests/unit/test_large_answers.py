"""A GetTrace is answered with the bytes that were written piece by piece: they are not parsed to be written again."""

from typing import Any, cast

import grpc
from lodestream_proto.v1 import query_pb2 as pb
from lodestream_proto.v1.query_pb2_grpc import QueryServiceStub

from services.read.query.get_trace import TraceAnswer
from services.read.query.service import QueryService


class Answering:
    """Reads that answer every request with this."""

    database = None

    def __init__(self, answer: TraceAnswer) -> None:
        self._answer = answer

    async def run(self, *_: object) -> TraceAnswer:
        return self._answer


class Traces:
    get_trace = None


async def test_what_is_written_is_not_parsed_again() -> None:
    class Written(TraceAnswer):
        def to_message(self) -> pb.GetTraceResponse:
            raise AssertionError("parsed to be written again")

    answer = Written(pb.GetTraceResponse(next_page_token="next"))
    server = grpc.aio.server()
    QueryService(cast("Any", Answering(answer)), cast("Any", Traces())).add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert (await QueryServiceStub(channel).GetTrace(pb.GetTraceRequest())).next_page_token == "next"
    finally:
        await server.stop(0)
