"""How long calls take: one client, one call after the other, through the query service and through the gateway."""

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from lodestream_proto.v1 import query_pb2 as pb
from lodestream_proto.v1.query_pb2_grpc import QueryServiceStub

if TYPE_CHECKING:  # a name of the type stubs only
    from lodestream_proto.v1.query_pb2_grpc import QueryServiceAsyncStub

_WARM_UP, _MOST_SECONDS = 5, 4.0


@dataclass(frozen=True, slots=True)
class Timed:
    """Milliseconds of so many calls; or why there are none."""

    p50: float = 0.0
    p99: float = 0.0
    calls: int = 0
    refused: str = ""

    def __str__(self) -> str:
        """As a cell of a table."""
        return self.refused or f"{self.p50:.1f} / {self.p99:.1f}"


class Client:
    """Calls with the key of the measured project."""

    def __init__(self, channel: grpc.aio.Channel, secret_key: str) -> None:
        self.stub: QueryServiceAsyncStub = QueryServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {secret_key}"),)

    async def call(self, method: str, request: Any) -> Any:
        """One answer."""
        return await getattr(self.stub, method)(request, metadata=self._metadata, timeout=30)

    async def timed(self, method: str, request: Callable[[int], Any] | Any, calls: int = 300) -> Timed:
        """So many calls, fewer where they are slow; `request` may make each one's from its number."""

        def one(number: int) -> Awaitable[Any]:
            return self.call(method, request(number) if callable(request) else request)

        try:
            for number in range(_WARM_UP):
                await one(number)
            took: list[float] = []
            end = time.perf_counter() + _MOST_SECONDS
            while len(took) < 2 or (len(took) < calls and time.perf_counter() < end):
                begin = time.perf_counter()
                await one(len(took))
                took.append(1e3 * (time.perf_counter() - begin))
        except grpc.aio.AioRpcError as error:
            return Timed(refused=f"{error.code().name}: {error.details()}")
        quantiles = statistics.quantiles(took, n=100, method="inclusive")
        return Timed(quantiles[49], quantiles[98], len(took))

    async def page_token(self, request: pb.ListTracesRequest, behind: int) -> str:
        """The token of the page that begins behind so many traces."""
        token = ""
        for _ in range(behind // 1_000):
            paged = pb.ListTracesRequest()
            paged.CopyFrom(request)
            paged.page_size, paged.page_token = 1_000, token
            token = (await self.call("ListTraces", paged)).next_page_token
        return token
