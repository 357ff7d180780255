"""The mock model behind OpenAI's HTTP API: as its real client and as plain HTTP see the real process."""

import asyncio
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import openai
import pytest
from lodestream.evaluators import Answer, Case, Tools, evaluator_of
from openai import AsyncOpenAI

from services.all_in_one.processes import Process, ProcessManager
from services.all_in_one.services import SERVICES, service_command
from tests.support.polling import until

MESSAGES: list[Any] = [
    {"role": "system", "content": "# Refunds\nRefunds take five days. Kettles are blue. Returned goods are free."},
    {"role": "user", "content": [{"type": "text", "text": "How long do refunds take?"}]},
]
ANSWER = "Refunds take five days. Kettles are blue."


@asynccontextmanager
async def running(ground: ProcessManager, **environment: str) -> AsyncIterator[tuple[Process, str]]:
    """A process of the mock model's, and its address."""
    known = next(known for known in SERVICES if known.module == "services.mock_llm")
    command = service_command(known, {**os.environ, "LODESTREAM_MOCK_LLM_SPEED": "inf", **environment})
    process = ground.process(replace(command, name=f"{command.name}-{uuid4().hex[:8]}"))
    await process.start()
    try:
        yield process, command.address
    finally:
        process.kill()
        await process.stop()


@pytest.fixture(scope="module")
async def address(ground: ProcessManager) -> AsyncIterator[str]:
    """host:port of one that all tests of this file ask."""
    async with running(ground) as (_, its_address):
        yield its_address


@pytest.fixture
async def client(address: str) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's client, which asks once."""
    async with asking(address) as client:
        yield client


def asking(address: str, retries: int = 0) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"http://{address}/v1", api_key="any", max_retries=retries)


async def get(address: str, path: str, method: str = "GET", body: Any = None) -> Any:
    """As a program without any client library."""

    def ask() -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{address}{path}", data, {"X-Test": "1"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=20) as response:
            said = response.read()
            return json.loads(said) if said else response.status

    return await asyncio.to_thread(ask)


async def chat(client: AsyncOpenAI, **settings: Any) -> Any:
    return await client.chat.completions.create(model="mock-large", messages=MESSAGES, **settings)


async def test_the_same_question_gets_the_same_answer_from_every_process(
    ground: ProcessManager, client: AsyncOpenAI
) -> None:
    first, again = await chat(client, temperature=0.2), await chat(client, temperature=0.2)
    [choice] = first.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", ANSWER, "stop")
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens > 0
    assert {first.id} == {again.id} != {(await chat(client, temperature=0.9)).id}
    async with running(ground) as (process, other), asking(other) as elsewhere:
        same = await chat(elsewhere, temperature=0.2)
        assert (same.id, same.choices, same.usage) == (first.id, first.choices, first.usage)
        slow = asyncio.create_task(chat(elsewhere, extra_body={"latency_seconds": 0.5, "speed": 1}))

        async def both_came() -> bool:
            return bool((await get(other, "/calls"))["total"] == 2)

        await until(both_came)
        await process.stop()
        assert (await slow).choices == first.choices, "what was under way came to its end"
        assert await process.ended() == 0


async def test_streams_say_the_same_piece_by_piece(client: AsyncOpenAI) -> None:
    whole = await chat(client)
    stream = await chat(client, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(said) == ANSWER
    assert len(said) > 5
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert {chunk.id for chunk in chunks} == {whole.id}
    plain = [chunk async for chunk in await chat(client, stream=True)]
    assert all(chunk.choices and chunk.usage is None for chunk in plain)
    cut = await chat(client, max_completion_tokens=2)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == (ANSWER[:8], "length")
    assert cut.usage.completion_tokens == 2


async def test_a_request_says_how_it_is_treated(client: AsyncOpenAI) -> None:
    for told in ("extra_body", "extra_query"):
        with pytest.raises(openai.InternalServerError, match="mock-large is overloaded") as failed:
            await chat(client, **{told: {"error_rate": 1}})
        assert (failed.value.status_code, failed.value.code) == (503, "overloaded")
    with pytest.raises(openai.RateLimitError, match="too many requests") as limited:
        await chat(client, extra_headers={"X-Mock-Rate-Limit-Rate": "1"}, extra_body={"retry_after_seconds": 2.5})
    assert limited.value.response.headers["retry-after"] == "3"
    with pytest.raises(openai.BadRequestError, match="refuses this question"):
        await chat(client, extra_body={"refusal_rate": 1})
    with pytest.raises(openai.InternalServerError):
        await chat(client, stream=True, extra_body={"error_rate": 1})
    began = time.monotonic()
    await asyncio.gather(*(chat(client, extra_body={"latency_seconds": 0.3, "speed": 1}) for _ in range(30)))
    assert 0.3 <= time.monotonic() - began < 5, "they wait at the same time"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"model": ""}, "model"),
        ({"n": 2}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"max_tokens": 0}, "max_completion_tokens"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": {"a": 1}}}}},
            "response_format",
        ),
        ({"error_rate": 7}, "error_rate"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(client: AsyncOpenAI, body: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await chat(client, extra_body=body)
    assert (refused.value.type, refused.value.param) == ("invalid_request_error", param)


async def test_failures_pass_and_every_call_is_counted(address: str) -> None:
    await get(address, "/calls", "DELETE")
    async with asking(address, retries=8) as patient:
        for number in range(6):
            settings = {"error_rate": 0.5, "rate_limit_rate": 0.2, "retry_after_seconds": 0.001, "seed": number}
            key = f"question-{number}"
            answer = await chat(patient, extra_body=settings, extra_headers={"Idempotency-Key": key})
            assert answer.choices[0].message.content == ANSWER
    told = await get(address, "/calls")
    assert told["by_key"].keys() == {f"question-{number}" for number in range(6)}
    assert told["total"] == sum(told["by_key"].values()) == told["by_model"]["mock-large"] == len(told["calls"]) > 6
    assert [call["number"] for call in told["calls"]] == list(range(1, told["total"] + 1))
    for key, tries in told["by_key"].items():
        its = [(call["attempt"], call["status"]) for call in told["calls"] if call["key"] == key]
        assert [attempt for attempt, _ in its] == list(range(tries))
        assert [status for _, status in its][-1] == 200
        assert all(status in (429, 503) for _, status in its[:-1])
    assert await get(address, "/calls", "DELETE") == 204
    assert (await get(address, "/calls"))["total"] == 0


async def test_the_limit_is_kept_and_says_when_to_come_again(ground: ProcessManager) -> None:
    limit = {"LODESTREAM_MOCK_LLM_REQUESTS_PER_SECOND": "20", "LODESTREAM_MOCK_LLM_BURST": "5"}
    async with running(ground, **limit) as (_, address):
        async with asking(address) as hasty:
            outcomes = await asyncio.gather(*(chat(hasty) for _ in range(30)), return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, openai.RateLimitError)]
        assert 10 <= len(refused) <= 25
        assert all(0 < int(each.response.headers["retry-after-ms"]) <= 50 for each in refused)
        async with asking(address, retries=30) as patient:
            answers = await asyncio.gather(*(chat(patient) for _ in range(10)))
        assert {answer.choices[0].message.content for answer in answers} == {ANSWER}


async def test_embeddings_are_near_where_words_are(client: AsyncOpenAI) -> None:
    async def vectors(*texts: str, **settings: Any) -> list[list[float]]:
        made = await client.embeddings.create(model="mock-embedding", input=list(texts), **settings)
        return [each.embedding for each in made.data]

    def near(one: list[float], other: list[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    refund, refunds, kettle = await vectors("refund in five days", "a refund takes five days", "blue kettles")
    assert len(refund) == 64
    assert near(refund, refund) == pytest.approx(1, abs=1e-6)
    assert near(refund, refunds) > near(refund, kettle)
    [as_numbers] = await vectors("refund in five days", encoding_format="float")
    assert as_numbers == pytest.approx(refund, abs=1e-6)
    assert len((await vectors("x", dimensions=8))[0]) == 8
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        await vectors("x", dimensions=0)


async def test_it_answers_in_json_and_judges_by_words(client: AsyncOpenAI) -> None:
    told = await chat(client, response_format={"type": "json_object"})
    assert json.loads(told.choices[0].message.content) == {"answer": ANSWER}
    asked: list[int] = []

    async def ask(messages: Any, *, provider: str, model: str, settings: Any) -> Answer:
        asked.append(settings.get("seed", 0))
        answer = await client.chat.completions.create(model=model, messages=messages, **settings)
        return Answer(text=answer.choices[0].message.content or "", input_tokens=answer.usage.prompt_tokens)

    async def verdict(output: str, **settings: Any) -> Any:
        judge = {"kind": "llm_judge", "rubric": "Is it right?", "provider": "mock", "model": "mock-large", **settings}
        case = Case(input="How long?", output=output, expected_output="Refunds take 14 working days.")
        return (await evaluator_of(judge).evaluate(case, Tools(ask=ask))).value

    right, wrong = "It takes 14 working days until refunds are there.", "I do not know."
    for enforced in ("json_schema", "json_object", "none"):
        assert await verdict(right, response_format=enforced) is True
        assert await verdict(wrong, response_format=enforced) is False
    assert await verdict(right, choices={"good": 1, "bad": 0}) == "good"
    assert await verdict(wrong, choices={"good": 1, "bad": 0}) == "bad"
    assert await verdict(wrong, scale={"min": 1, "max": 5}) == 1
    assert await verdict(right, scale={"min": 1, "max": 5}) > 3
    asked.clear()
    assert await verdict(right, votes=3) is True
    assert asked == [0, 1, 2]


async def test_plain_http_is_enough(address: str) -> None:
    assert await get(address, "/health") == {"status": "ok"}
    assert {model["id"] for model in (await get(address, "/v1/models"))["data"]} >= {"mock-large", "mock-small"}
    body = {"model": "any-name", "messages": [{"role": "user", "content": "Hello?"}]}
    said = await get(address, "/v1/chat/completions?seed=3", "POST", body)
    assert said["object"] == "chat.completion"
    assert said["choices"][0]["message"]["content"] == "I do not know."
    for path, method, payload, status in [
        ("/v1/nothing", "GET", None, 404),
        ("/v1/chat/completions", "GET", None, 405),
        ("/v1/chat/completions", "POST", [1], 400),
    ]:
        with pytest.raises(urllib.error.HTTPError) as refused:
            await get(address, path, method, payload)
        assert refused.value.code == status
        with refused.value:
            assert json.loads(refused.value.read())["error"]["type"] == "invalid_request_error"
