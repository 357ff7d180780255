"""A trace of twenty thousand spans is read in pages, and one that opens to more than memory costs its readers only."""

import asyncio
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from lodestream_proto.v1.query_pb2 import (
    GetTraceOverviewRequest,
    GetTraceOverviewResponse,
    GetTraceRequest,
    GetTraceResponse,
)
from lodestream_proto.v1.query_pb2_grpc import QueryServiceStub

from shared.runtime.settings import MIB
from tests.conftest import StartService
from tests.support.cli import typing_to
from tests.support.gateway import refusal
from tests.support.large_traces import BEGAN, fold, wide
from tests.support.records import span
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(180)

LARGE, HEAVY = 0xA1, 0xB2
SPANS = 20_000
LEADER = 402
"""One of the agents."""
HEAVY_RECORDS, HEAVY_SPANS, HEAVY_TEXT = 8, 5, 3 * MIB
MOST_MEMORY = 1024 * MIB
"""docs/operations.md."""


@pytest.fixture(scope="module")
async def filled(shared_stack: Stack) -> Stack:
    """The project "acme" has a large trace, and one of few spans that are 120 MiB when they are opened."""
    await fold(shared_stack.dsn, wide(LARGE, SPANS, errors=(777, 15_000)), project="acme")
    heavy = [
        span(HEAVY, number, start_ms=number, day=BEGAN, attributes={"input.value": f"{number} " + "x" * HEAVY_TEXT})
        for number in range(1, HEAVY_RECORDS * HEAVY_SPANS + 1)
    ]
    await fold(shared_stack.dsn, heavy, project="acme", spans_of_a_record=HEAVY_SPANS)
    return shared_stack


async def ask(stack: Stack, trace: int, **fields: Any) -> GetTraceResponse:
    return await asked(stack.query, stack, trace, **fields)


async def asked(query: Any, stack: Stack, trace: int, **fields: Any) -> GetTraceResponse:
    request = GetTraceRequest(trace_id=trace.to_bytes(16).hex(), **fields)
    answer: GetTraceResponse = await query.GetTrace(request, metadata=stack.metadata(), timeout=60)
    return answer


async def pages(stack: Stack, trace: int, **fields: Any) -> list[GetTraceResponse]:
    found = [await ask(stack, trace, **fields)]
    while found[-1].next_page_token:
        found.append(await ask(stack, trace, page_token=found[-1].next_page_token, **fields))
    return found


async def test_pages_together_are_the_trace_in_start_order(filled: Stack) -> None:
    found = await pages(filled, LARGE, page_size=4_000)
    assert len(found) >= SPANS // 4_000
    assert max(page.ByteSize() for page in found) < 3 * MIB  # gRPC's clients take 4 by default
    spans = [each for page in found for each in page.spans]
    assert [int(each.span_id, 16) for each in spans] == list(range(1, SPANS + 1))
    assert found[0].trace.span_count == SPANS
    assert not any(page.HasField("trace") for page in found[1:])
    assert {each.name for each in spans if each.critical} == {"crawl", "agent", "embed"}


async def test_an_answer_that_is_no_page_is_complete_or_says_where_it_ends(filled: Stack) -> None:
    async with grpc.aio.insecure_channel(filled.address, [("grpc.max_receive_message_length", -1)]) as channel:
        whole = await asked(QueryServiceStub(channel), filled, LARGE)
        assert (len(whole.spans), whole.next_page_token) == (SPANS, "")
        begun = await asked(QueryServiceStub(channel), filled, HEAVY, with_content=True)
    assert begun.ByteSize() < 17 * MIB
    assert 0 < len(begun.spans) < HEAVY_RECORDS * HEAVY_SPANS
    assert begun.next_page_token


async def test_one_observation_is_opened_by_its_id(filled: Stack) -> None:
    chosen = await ask(filled, LARGE, span_ids=[f"{SPANS:016x}", "00000000000000ff", "ff" * 8], with_content=True)
    assert [(each.name, each.content.input) for each in chosen.spans] == [
        ("embed", "page 255"),
        ("embed", f"page {SPANS}"),
    ]
    assert not chosen.next_page_token


async def test_content_comes_in_pages_too(filled: Stack) -> None:
    first = await ask(filled, LARGE, with_content=True, page_size=700)
    second = await ask(filled, LARGE, with_content=True, page_size=700, page_token=first.next_page_token)
    texts = [each.content.input for page in (first, second) for each in page.spans]
    assert texts == ["", *(f"page {number}" for number in range(2, 1_401))]


async def test_what_can_not_be_asked_is_refused_by_its_field(filled: Stack) -> None:
    token = (await ask(filled, LARGE, page_size=1)).next_page_token
    for fields, wrong in (
        ({"page_size": 10_001}, "page_size"),
        ({"span_ids": ["ab"]}, "span_ids[0]"),
        ({"span_ids": ["ab" * 8] * 1_001}, "span_ids"),
        ({"page_token": token, "with_content": True}, "page_token"),
        ({"page_token": "AAAA"}, "page_token"),
    ):
        error = await refusal(ask(filled, LARGE, **fields))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert str(error.details()).startswith(wrong)


async def test_whatever_is_opened_at_once_memory_is_bounded(filled: Stack, service: StartService) -> None:
    settings = {"LODESTREAM_POSTGRES": filled.dsn, "LODESTREAM_QUERY_ANSWER_BYTES": str(16 * MIB)}
    query = await service("services.read.query", **settings)
    async with grpc.aio.insecure_channel(query.address, [("grpc.max_receive_message_length", -1)]) as channel:
        calls = [asked(QueryServiceStub(channel), filled, HEAVY, with_content=True) for _ in range(8)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    spans = [len(each.spans) for each in answers if isinstance(each, GetTraceResponse)]
    assert min(spans) > 1
    assert most_memory(query.process.pid) < MOST_MEMORY


def most_memory(pid: int | None) -> int:
    """The most that a process has had in memory, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def overview(stack: Stack, trace: int, **fields: Any) -> GetTraceOverviewResponse:
    request = GetTraceOverviewRequest(trace_id=trace.to_bytes(16).hex(), **fields)
    answer: GetTraceOverviewResponse = await stack.query.GetTraceOverview(
        request, metadata=stack.metadata(), timeout=60
    )
    return answer


async def test_an_overview_shows_what_matters_and_counts_the_rest(filled: Stack) -> None:
    seen = await overview(filled, LARGE)
    assert len(seen.spans) <= 100
    assert {int(each.span_id, 16) for each in seen.spans} >= {1, 777, 15_000}
    hidden = sum(group.span_count + group.descendant_count for group in seen.folded)
    assert len(seen.spans) + hidden == seen.trace.span_count == SPANS
    assert {group.name for group in seen.folded} == {"agent", "embed"}
    assert seen.HasField("freshness")
    assert seen.ByteSize() < MIB


async def test_an_overview_can_be_of_one_span_of_some_levels_or_of_errors(filled: Stack) -> None:
    agent = f"{LEADER:016x}"
    below = await overview(filled, LARGE, span_id=agent)
    assert [each.name for each in below.spans] == ["agent", *["embed"] * 99]
    assert not below.folded
    levels = await overview(filled, LARGE, depth=1)
    assert [each.name for each in levels.spans] == ["crawl"]
    assert [(group.name, group.span_count, group.descendant_count) for group in levels.folded] == [
        ("agent", SPANS // 100, SPANS - 1 - SPANS // 100)
    ]
    failed = await overview(filled, LARGE, errors_only=True)
    assert [each.name for each in failed.spans] == ["crawl", "agent", "embed", "agent", "embed"]
    for fields, code in (
        ({"span_id": "ff" * 8}, grpc.StatusCode.NOT_FOUND),
        ({"span_id": "ff"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"max_spans": 2_001}, grpc.StatusCode.INVALID_ARGUMENT),
    ):
        assert (await refusal(overview(filled, LARGE, **fields))).code() == code


async def test_the_command_line_folds_says_how_to_unfold_and_streams_everything(filled: Stack) -> None:
    user = typing_to(filled)
    trace_id = LARGE.to_bytes(16).hex()
    folded = (await user.run("traces", "get", trace_id)).out
    assert len(folded.splitlines()) < 250
    assert "page 777 is gone" in folded
    assert "page 15000 is gone" in folded
    assert " of 20,000 spans are folded" in folded
    assert re.search(r"… \d+ more embed spans", folded)
    assert re.search(r"… \d+ more agent spans, [\d,]+ below", folded)
    opened = (await user.run("traces", "get", trace_id, "--span", f"{LEADER:016x}", "--content")).out
    assert f"page {LEADER + 99}" in opened
    assert "folded" not in opened
    failed = (await user.run("traces", "get", trace_id, "--errors", "--json")).json
    assert [each["name"] for each in failed["spans"]] == ["crawl", "agent", "embed", "agent", "embed"]
    whole = (await user.run("traces", "get", trace_id, "--json")).json
    assert [int(each["span_id"], 16) for each in whole["spans"]] == list(range(1, SPANS + 1))
    assert (await user.run("traces", "get", trace_id, "--all", "--errors")).code == 2
