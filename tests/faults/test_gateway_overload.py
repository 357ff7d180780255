"""More than the gateway holds is refused for a moment; a database that is away costs those it knows nothing."""

import asyncio
import os
import signal

import grpc
import psutil
import pytest

from services.all_in_one.processes import Process
from shared.auth.keys import NewKey
from tests.conftest import PrivateServer, StartService
from tests.support.gateway import MODULE, Door, metric, new_key, opened, refusal, request_of, retry_delay
from tests.support.polling import until
from tests.support.records import span
from tests.support.servers import Servers


async def test_what_does_not_fit_is_refused_with_a_time_to_retry_and_nothing_is_left_behind(
    private_kafka: PrivateServer, database: str, service: StartService
) -> None:
    kafka = await private_kafka()
    gateway = await service(
        MODULE,
        LODESTREAM_POSTGRES=database,
        LODESTREAM_KAFKA=kafka.command.address,
        LODESTREAM_GATEWAY_MAX_IN_FLIGHT_BYTES=str(2 * 1024 * 1024),
        LODESTREAM_GATEWAY_ACK_SECONDS="4",
    )
    async with opened(gateway.address, await new_key(database)) as door:
        await door.export(request_of(span(1, 1)))
        kafka.pause()
        try:
            large = request_of(span(1, 1, attributes={"input.value": os.urandom(300_000).hex()}))
            outcomes = await asyncio.gather(*(door.export(large) for _ in range(12)), return_exceptions=True)
        finally:
            kafka.resume()
        errors = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
        assert len(errors) == 12
        assert {error.code() for error in errors} == {grpc.StatusCode.UNAVAILABLE}
        assert all(retry_delay(error) >= 1 for error in errors)
        full = [error for error in errors if "the gateway is full" in (error.details() or "")]
        assert 6 <= len(full) < 12, "some got in and waited for the log, the others were told at once"

        def nothing_held() -> bool:
            held = ("lodestream_gateway_append_bytes", "lodestream_gateway_request_bytes")
            return not any(metric(gateway.metrics, name) for name in held)

        async def is_taken() -> bool:
            try:
                await door.export(large)
            except grpc.aio.AioRpcError:  # the log has only just come back
                return False
            return True

        await until(nothing_held, what="the room is given back")
        for _ in range(3):
            await until(is_taken, what="requests are taken again")


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_without_postgres_known_keys_go_on_writing(
    servers: Servers, private_postgres: PrivateServer, service: StartService, how: str
) -> None:
    postgres = await private_postgres()
    dsn = postgres.command.address
    key, other = await new_key(dsn), await new_key(dsn, "rival")
    gateway = await service(MODULE, LODESTREAM_POSTGRES=dsn)
    async with opened(gateway.address, key) as door:
        await door.export(request_of(span(1, 1)))
        if how == "killed":
            postgres.kill()
            await postgres.ended()
        else:
            _signal(postgres, signal.SIGSTOP)
        try:
            await door.export(request_of(span(1, 2)))
            error = await refusal(door.export(request_of(span(1, 3)), metadata=door.with_key(other).bearer))
            assert error.code() == grpc.StatusCode.UNAVAILABLE, "not UNAUTHENTICATED: the key may well be good"
            assert retry_delay(error) >= 5
        finally:
            _signal(postgres, signal.SIGCONT)
        if how == "killed":
            await postgres.start()
        await until(lambda: _written(door.with_key(other)), deadline=20, what="the other key is known")


async def test_a_gateway_starts_without_postgres_and_seeds_its_first_key_later(
    servers: Servers, private_postgres: PrivateServer, service: StartService
) -> None:
    postgres = await private_postgres()
    dsn = postgres.command.address
    await postgres.stop()
    seed = {"PROJECT_ID": "local", "PUBLIC_KEY": "any public", "SECRET_KEY": "any secret"}
    init = {f"LODESTREAM_INIT_{name}": value for name, value in seed.items()}
    gateway = await service(MODULE, LODESTREAM_POSTGRES=dsn, **init)
    async with opened(gateway.address, NewKey("any public", "any secret")) as door:
        error = await refusal(door.export(request_of(span(1, 1))))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        await postgres.start()
        await until(lambda: _written(door), deadline=20, what="the first key opens")


def _signal(postgres: Process, number: signal.Signals) -> None:
    """To the server and its children, if it runs."""
    if postgres.pid is not None:
        itself = psutil.Process(postgres.pid)
        for process in (itself, *itself.children(recursive=True)):
            process.send_signal(number)


async def _written(door: Door) -> bool:
    try:
        await door.export(request_of(span(1, 1)))
    except grpc.aio.AioRpcError:
        return False
    return True
