"""The SDK before the real gateway: what a program tells is read back, whatever becomes of program and gateway."""

import asyncio
import datetime as dt
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest
from lodestream import Lodestream, ObservationType, observe, propagate_attributes
from lodestream_proto.v1.trace_pb2 import (
    LEVEL_WARNING,
    SPAN_TYPE_AGENT,
    SPAN_TYPE_CHAIN,
    SPAN_TYPE_EMBEDDING,
    SPAN_TYPE_EVALUATOR,
    SPAN_TYPE_EVENT,
    SPAN_TYPE_GENERATION,
    SPAN_TYPE_GUARDRAIL,
    SPAN_TYPE_RETRIEVER,
    SPAN_TYPE_SPAN,
    SPAN_TYPE_TOOL,
)

from tests.support.polling import until
from tests.support.stack import Stack, waiting


@pytest.fixture
async def client(stack: Stack, tmp_path: Path) -> AsyncIterator[Lodestream]:
    """Of the project "acme", with a spool of its own."""
    made = Lodestream(
        endpoint=stack.address,
        secret_key=stack.keys["acme"].secret_key,
        spool_dir=tmp_path,
        environment="test",
        release="7",
    )
    yield made
    await asyncio.to_thread(made.shutdown)


async def test_everything_that_is_told_is_read_back(stack: Stack, client: Lodestream) -> None:
    first_token = dt.datetime.now(dt.UTC)
    with (
        propagate_attributes(
            user_id="ada", session_id="chat-7", tags=["web", "vip"], metadata={"plan": "pro"}, trace_name="support"
        ),
        client.start_as_current_observation(name="answer", as_type="agent", input="why?") as root,
    ):
        client.start_observation(
            name="ask",
            as_type="generation",
            input=[{"role": "user", "content": "why?"}],
            output={"role": "assistant", "content": "because"},
            metadata={"tries": 2},
            level="WARNING",
            status_message="slow",
            completion_start_time=first_token,
            model="mock-large",
            model_parameters={"temperature": 0.2},
            usage_details={"input": 100, "output": 10},
            prompt={"name": "support", "version": 8},
        ).end()
        root.update(output="because")
    receipt = await asyncio.to_thread(client.flush)
    assert (receipt.delivered, receipt.pending, receipt.dropped) == (2, 0, 0)

    answer = await stack.get(int(root.trace_id, 16), with_content=True, wait_for=waiting(receipt.position))
    trace, (agent, ask) = answer.trace, answer.spans
    assert (trace.name, trace.user_id, trace.session_id) == ("support", "ada", "chat-7")
    assert (sorted(trace.tags), trace.environment, trace.release) == (["vip", "web"], "test", "7")
    assert (trace.input_preview, trace.output_preview) == ("why?", "because")
    assert (agent.type, ask.type) == (SPAN_TYPE_AGENT, SPAN_TYPE_GENERATION)
    assert (ask.parent_span_id, ask.model, ask.level) == (agent.span_id, "mock-large", LEVEL_WARNING)
    assert ask.status_message == "slow"
    assert dict(ask.usage) == {"input": 100, "output": 10}
    assert ask.cost_usd == pytest.approx((100 * 2 + 10 * 8) / 1e6)
    assert (ask.prompt_name, ask.prompt_version) == ("support", 8)
    assert abs(ask.time_to_first_token_us) < 1_000_000
    assert "lodestream" in ask.sdk
    assert ask.content.input == '[{"role":"user","content":"why?"}]'
    assert ask.content.output == '{"role":"assistant","content":"because"}'


TYPES: dict[ObservationType, Any] = {
    "span": SPAN_TYPE_SPAN,
    "generation": SPAN_TYPE_GENERATION,
    "embedding": SPAN_TYPE_EMBEDDING,
    "agent": SPAN_TYPE_AGENT,
    "tool": SPAN_TYPE_TOOL,
    "chain": SPAN_TYPE_CHAIN,
    "retriever": SPAN_TYPE_RETRIEVER,
    "evaluator": SPAN_TYPE_EVALUATOR,
    "guardrail": SPAN_TYPE_GUARDRAIL,
    "event": SPAN_TYPE_EVENT,
}


async def test_each_type_is_known_on_the_other_side(stack: Stack, client: Lodestream) -> None:
    assert set(TYPES) == set(get_args(ObservationType))
    with client.start_as_current_observation(name="root") as root:
        for as_type in TYPES:
            client.start_observation(name=as_type, as_type=as_type).end()
    receipt = await asyncio.to_thread(client.flush)
    answer = await stack.get(int(root.trace_id, 16), wait_for=waiting(receipt.position))
    assert {span.name: span.type for span in answer.spans if span.parent_span_id} == TYPES


async def test_what_is_told_while_the_gateway_is_away_arrives_once_when_it_is_back(
    stack: Stack, client: Lodestream
) -> None:
    @observe
    def work(number: int) -> int:
        return number

    work(1)
    assert (await asyncio.to_thread(client.flush)).complete
    stack.gateway.kill()
    await stack.gateway.ended()
    for number in range(2, 50):
        work(number)
    receipt = await asyncio.to_thread(client.flush, 1.0)
    assert (receipt.delivered, receipt.pending, receipt.dropped, receipt.durable) == (1, 48, 0, True)
    assert "UNAVAILABLE" in receipt.problem

    await stack.gateway.start()
    receipt = await asyncio.to_thread(client.flush, 30.0)
    assert (receipt.delivered, receipt.pending, receipt.dropped, receipt.problem) == (49, 0, 0, "")
    listed = await stack.list(page_size=100, wait_for=waiting(receipt.position))
    assert [trace.span_count for trace in listed.traces] == [1] * 49


PROGRAM = """
import sys
from lodestream import get_client, observe

@observe
def work(number):
    return number

for number in range(int(sys.argv[1])):
    work(number)
receipt = get_client().flush(1)
print(receipt.delivered, receipt.pending, flush=True)
sys.stdin.read()
"""


async def run_program(stack: Stack, spool: Path, calls: int) -> tuple[asyncio.subprocess.Process, str]:
    """A program that observes so many calls, flushes and waits; it, and its receipt."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(calls)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "LODESTREAM_ENDPOINT": stack.address,
            "LODESTREAM_SECRET_KEY": stack.keys["acme"].secret_key,
            "LODESTREAM_SPOOL_DIR": str(spool),
        },
    )
    assert child.stdout is not None
    return child, (await asyncio.wait_for(child.stdout.readline(), 30)).decode().strip()


async def test_what_a_killed_program_left_is_delivered_by_the_next(stack: Stack, tmp_path: Path) -> None:
    stack.gateway.kill()
    await stack.gateway.ended()
    killed, receipt = await run_program(stack, tmp_path, 30)
    assert receipt == "0 30"
    killed.kill()
    await killed.communicate()

    await stack.gateway.start()
    following, receipt = await run_program(stack, tmp_path, 1)
    assert receipt == "1 0"

    async def all_arrived() -> bool:
        return len((await stack.list(page_size=100)).traces) == 31

    await until(all_arrived, what="31 traces")
    await following.communicate(b"")
    await until(lambda: not [*tmp_path.rglob("*.log")], what="an empty spool")


async def test_a_wrong_key_is_told_and_costs_nothing(stack: Stack, tmp_path: Path) -> None:
    client = Lodestream(endpoint=stack.address, secret_key="sk-ls-wrong", spool_dir=tmp_path)
    check = await asyncio.to_thread(client.check_connection)
    assert not check.ok
    assert "key" in check.message
    client.create_event(name="kept")
    receipt = await asyncio.to_thread(client.flush, 0.5)
    assert (receipt.pending, receipt.dropped, receipt.durable) == (1, 0, True)
    assert "UNAUTHENTICATED" in receipt.problem
    await asyncio.to_thread(client.shutdown, 0.1)
    right = Lodestream(endpoint=stack.address, secret_key=stack.keys["acme"].secret_key, spool_dir=tmp_path)
    assert (await asyncio.to_thread(right.check_connection)).ok
    await asyncio.to_thread(right.shutdown)
