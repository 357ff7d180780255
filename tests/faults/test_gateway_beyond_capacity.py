"""Three times more than the gateway can do, and one project that sends far more than its share."""

import asyncio
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import psutil

from services.all_in_one.ports import HOST
from services.all_in_one.processes import Process
from tests.conftest import StartService
from tests.support.gateway import MODULE, Door, new_key, opened, request_of, retry_delay
from tests.support.log_access import ends
from tests.support.polling import until
from tests.support.records import span
from tests.support.servers import Servers
from tests.torture.log_reader import read_log
from tests.torture.stand import Stand

_RECORD_BYTES = 50_000
_PAYLOAD = os.urandom(_RECORD_BYTES).hex()  # the log's compression makes one byte of two
_CAPACITY = 40
"""Requests a second."""
_MIB = 1024 * 1024
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: its span, how long it took, and the error it ended with."""

    span_id: str
    seconds: float
    error: grpc.aio.AioRpcError | None

    @property
    def accepted(self) -> bool:
        return self.error is None


async def send(door: Door, number: int, *, payload: str = _PAYLOAD, spans: int = 1) -> Outcome:
    told = [span(number, number * 100 + n + 1, attributes={"input.value": payload}) for n in range(spans)]
    begin, error = time.monotonic(), None
    try:
        await door.export(request_of(*told))
    except grpc.aio.AioRpcError as refused:
        error = refused
    return Outcome(told[0].span_id.hex(), time.monotonic() - begin, error)


def quantile(outcomes: Sequence[Outcome], share: float) -> float:
    """Of their durations."""
    return sorted(outcome.seconds for outcome in outcomes)[int(share * (len(outcomes) - 1))]


async def offer(door: Door, rate: float, seconds: float, *, first: int) -> list[Outcome]:
    """Requests at this rate, whether or not the ones before are answered."""
    begin, calls = time.monotonic(), list[asyncio.Task[Outcome]]()
    while (now := time.monotonic() - begin) < seconds:
        due = int(now * rate) - len(calls)
        calls += [asyncio.create_task(send(door, first + len(calls) + n)) for n in range(due)]
        await asyncio.sleep(0.005)
    return await asyncio.gather(*calls)


async def test_three_times_the_capacity_is_refused_at_once_and_leaves_nothing_behind(own_stand: Stand) -> None:
    """What limits is the line to the log, which takes so many bytes a second."""
    gateway = await own_stand.gateway(LODESTREAM_GATEWAY_MAX_IN_FLIGHT_BYTES=str(4 * _MIB))
    own_stand.proxies["log"].limit(_CAPACITY * _RECORD_BYTES)
    address = f"{HOST}:{own_stand.gateway_port}"
    async with opened(address, own_stand.key) as door:
        await asyncio.gather(*(send(door, 10**6 + n) for n in range(4)))
        before, begin = _memory(gateway), await ends(own_stand.kafka)
        outcomes = await offer(door, 3 * _CAPACITY, 6, first=1)
        refused = [outcome for outcome in outcomes if outcome.error]
        accepted = [outcome for outcome in outcomes if outcome.accepted]
        _log.info(
            "offered %d/s, accepted %.0f/s in p95 %.3f s, refused in p95 %.3f s, memory %+d MiB",
            3 * _CAPACITY, len(accepted) / 6, quantile(accepted, 0.95), quantile(refused, 0.95),
            (_memory(gateway) - before) // _MIB,
        )  # fmt: skip
        assert len(accepted) > 3 * _CAPACITY, "half of what it can do in these seconds, at least"
        assert len(refused) > len(accepted)
        assert {outcome.error.code() for outcome in refused if outcome.error} == {grpc.StatusCode.UNAVAILABLE}
        assert all(retry_delay(outcome.error) >= 1 for outcome in refused if outcome.error)
        assert quantile(refused, 0.95) < 0.5, "at once"
        assert _memory(gateway) - before < 100 * _MIB

        async def normal() -> bool:
            again = await send(door, random.randrange(10**8, 10**9))
            return again.accepted and again.seconds < 0.25

        await until(normal, deadline=10, what="answers as before")
        log = await read_log(own_stand.kafka, begin)
        copies = Counter(found.span for record in log.records for found in record.spans)
        assert {copies[outcome.span_id] for outcome in accepted} == {1}
        assert {copies[outcome.span_id] for outcome in refused} <= {0, 1}, "nothing unacknowledged is stored twice"


async def test_a_noisy_project_is_held_to_its_quota_and_a_quiet_one_does_not_notice(
    servers: Servers, database: str, service: StartService
) -> None:
    quota, seconds = 500, 4
    gateway = await service(
        MODULE,
        LODESTREAM_POSTGRES=database,
        LODESTREAM_GATEWAY_QUOTA_SPANS_PER_SECOND=str(quota),
        LODESTREAM_GATEWAY_QUOTA_BURST_SECONDS="1",
    )
    async with opened(gateway.address, await new_key(database, "quiet")) as quiet:
        alone = await _paced(quiet, seconds / 2, first=1)
        noisy = quiet.with_key(await new_key(database, "noisy"))
        beside, noise = await asyncio.gather(_paced(quiet, seconds, first=10_000), _flood(noisy, seconds))
    assert all(outcome.accepted for outcome in [*alone, *beside]), "the quiet project is never refused"
    refused = [outcome for outcome in noise if outcome.error]
    _log.info(
        "quiet p50/p95 alone %.4f/%.4f s, beside the noise %.4f/%.4f s; %d of %d noisy requests refused",
        quantile(alone, 0.5), quantile(alone, 0.95), quantile(beside, 0.5), quantile(beside, 0.95),
        len(refused), len(noise),
    )  # fmt: skip
    assert len(noise) * 10 > 3 * quota * seconds, "it was noisy"
    assert sum(outcome.accepted for outcome in noise) * 10 <= quota * (seconds + 2)
    assert all(retry_delay(outcome.error) > 0 for outcome in refused if outcome.error)
    assert quantile(beside, 0.5) < 0.1 + 2 * quantile(alone, 0.5)


async def _paced(door: Door, seconds: float, *, first: int) -> list[Outcome]:
    """Twenty requests a second, one after the other."""
    end, outcomes = time.monotonic() + seconds, list[Outcome]()
    while time.monotonic() < end:
        outcomes.append(await send(door, first + len(outcomes), payload="quiet"))
        await asyncio.sleep(0.05)
    return outcomes


async def _flood(door: Door, seconds: float) -> list[Outcome]:
    """Eight callers, ten spans a request, heeding nothing."""
    end, outcomes = time.monotonic() + seconds, list[Outcome]()

    async def call(first: int) -> None:
        while time.monotonic() < end:
            outcomes.append(await send(door, first + len(outcomes), payload="noise", spans=10))

    await asyncio.gather(*(call(1_000_000 * (n + 1)) for n in range(8)))
    return outcomes


def _memory(process: Process) -> int:
    return int(psutil.Process(process.pid).memory_info().rss)
