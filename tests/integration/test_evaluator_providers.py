"""A real client against an endpoint that misbehaves, and the limits that all workers keep in a real Redis."""

import asyncio
import time
from contextlib import suppress
from uuid import uuid4

import pytest
from pydantic import SecretStr

from services.write.evaluator.model_calls import ModelCalls
from services.write.evaluator.providers.endpoints import Endpoint
from services.write.evaluator.providers.mock import MockProvider
from services.write.evaluator.providers.openai import OpenAIProvider
from services.write.evaluator.providers.provider import CallError, ModelRequest, PermanentError, TransientError
from services.write.evaluator.rate_limits import MAX_WAIT_SECONDS, CallDelayedError, RateLimits
from tests.support.model_server import ModelServer, Says, completion, model_server

ASKED = ModelRequest(model="m", messages=[{"role": "user", "content": "?"}], settings={"temperature": 0}, key="k-1")
SECRET = "sk-canary-1234567890"


async def refusal(model: ModelServer, *, seconds: float = 5.0) -> CallError:
    provider = OpenAIProvider(base_url=f"http://{model.address}/v1", api_key=SecretStr(SECRET), seconds=seconds)
    try:
        with pytest.raises(CallError) as caught:
            await provider.complete(ASKED)
        return caught.value
    finally:
        await provider.aclose()


async def test_a_call_says_what_is_asked_once() -> None:
    """The client's own retries are off; the key is the question's."""
    async with model_server() as model:
        provider = OpenAIProvider(base_url=f"http://{model.address}/v1", api_key=None, seconds=5)
        reply = await provider.complete(ASKED)
        await provider.aclose()
    assert (reply.text, reply.usage["input"], reply.usage["output"]) == ("It takes 14 days.", 10, 5)
    (call,) = model.calls
    assert (call["model"], call["temperature"], call["messages"]) == ("m", 0, ASKED.messages)
    assert model.keys == {"k-1": 1}


@pytest.mark.parametrize(
    ("says", "kind", "reason"),
    [
        (Says(status=401, raw=f'{{"error": {{"message": "wrong: {SECRET}"}}}}'.encode()), PermanentError, "wrong: …"),
        (Says(status=404, raw=b"<html>"), PermanentError, "404"),
        (Says(status=429, headers=("retry-after: 3",), raw=b"{}"), TransientError, "429"),
        (Says(status=503, raw=b""), TransientError, "503"),
        (Says(raw=b"<html>a proxy's page</html>"), TransientError, "not a chat completion"),
        (Says(raw=b" " * 5_000_000), PermanentError, "more than 4,259,840 bytes"),
        (Says(raw=completion("x" * 1_100_000)), PermanentError, "the answer has 1,100,000 bytes; at most 1,048,576"),
        (Says(status=400, raw=b'{"error": {"message": "' + b"x" * 5_000_000 + b'"}}'), PermanentError, "says no more"),
        (Says(status=307, headers=("location: http://127.0.0.1:1/v1",), raw=b""), PermanentError, "307"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)  # fmt: skip
async def test_what_an_endpoint_may_answer_instead(says: Says, kind: type[CallError], reason: str) -> None:
    async with model_server(lambda _n, _body: says) as model:
        error = await refusal(model)
    assert isinstance(error, kind)
    assert reason in str(error)
    assert SECRET not in str(error)
    assert len(model.calls) == 1
    if isinstance(error, TransientError):
        assert error.retry_after == (3.0 if says.status == 429 else None)


async def test_nobody_there_and_nobody_answering_may_pass() -> None:
    async with model_server(lambda _n, _body: Says(after_seconds=30)) as model:
        assert isinstance(await refusal(model, seconds=0.2), TransientError)
    assert isinstance(await refusal(model), TransientError)


@pytest.mark.parametrize("status", ["200 OK", "503 Unavailable"])
async def test_a_reply_without_end_is_read_to_a_bound(status: str) -> None:
    """An endpoint that never stops is hung up on after a few megabytes, whether it answers or refuses."""
    sent = 0

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n\r\n".encode())
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" " * 65_536)
                sent += 65_536
                await writer.drain()

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    provider = OpenAIProvider(
        base_url="http://{}:{}/v1".format(*server.sockets[0].getsockname()[:2]), api_key=None, seconds=5
    )
    try:
        async with asyncio.timeout(30):
            with pytest.raises(CallError) as caught:
                await provider.complete(ASKED)
    finally:
        await provider.aclose()
        server.close()
    assert isinstance(caught.value, PermanentError if status.startswith("200") else TransientError)
    assert sent < 64 * 1024 * 1024


async def test_a_reply_that_drips_ends_with_the_time_for_a_call(servers) -> None:
    """Each byte comes in time, the whole never does."""

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    address = "{}:{}".format(*server.sockets[0].getsockname()[:2])
    provider = OpenAIProvider(base_url=f"http://{address}/v1", api_key=None, seconds=5)
    limits = RateLimits(servers.redis, workers=lambda: 1)
    calls = ModelCalls({"drip": Endpoint("drip", provider)}, limits, seconds=0.5)
    start = time.monotonic()
    try:
        with pytest.raises(TransientError, match=r"no answer within 0\.5 s"):
            await calls.call("p", "drip", ASKED)
    finally:
        await provider.aclose()
        await limits.aclose()
        server.close()
    assert time.monotonic() - start < 5


async def test_all_workers_share_one_bucket(servers) -> None:
    """Two workers ask for places at once: together they get what the rate says, each place once."""
    endpoint = Endpoint(f"e-{uuid4().hex[:8]}", MockProvider(), requests_per_second=20)
    one, other = (RateLimits(servers.redis, workers=lambda: 2) for _ in range(2))
    begin = time.monotonic()

    async def place(limits: RateLimits) -> float | None:
        with suppress(CallDelayedError):
            await limits.wait(endpoint)
            return time.monotonic() - begin
        return None

    got = await asyncio.gather(*(place(limits) for limits in [one, other] * 60))
    places = sorted(each for each in got if each is not None)
    await one.aclose()
    await other.aclose()
    burst, asking = 10, 1.0  # second that it may take to ask so often
    assert 20 * MAX_WAIT_SECONDS <= len(places) <= 20 * (MAX_WAIT_SECONDS + asking) + burst
    for at in places:
        assert sum(at <= other < at + 1 for other in places) <= 20 + burst + 5


async def test_a_provider_that_is_to_rest_rests_for_all(servers) -> None:
    endpoint = Endpoint(f"e-{uuid4().hex[:8]}", MockProvider())
    one, other = (RateLimits(servers.redis, workers=lambda: 2) for _ in range(2))
    await one.pause(endpoint, 0.6)
    await one.pause(endpoint, 0.1)
    begin = time.monotonic()
    await asyncio.gather(one.wait(endpoint), other.wait(endpoint))
    assert 0.4 < time.monotonic() - begin < 2
    await other.pause(endpoint, 60)
    with pytest.raises(CallDelayedError):
        await one.wait(endpoint)
    await one.aclose()
    await other.aclose()
