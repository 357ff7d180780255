"""`lodestream.openai` on OpenAI's own client library, against a server that answers as OpenAI does."""

import asyncio
import gc
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import lodestream
import openai as real
import pytest
from lodestream import TextPrompt
from lodestream.openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI, openai
from lodestream.testing import Captured, CapturedSpan, captured
from pydantic import BaseModel

from sdk.tests.matrix.model_server import ModelServer

MESSAGES: Any = [{"role": "user", "content": "How long?"}]
TOOL: Any = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
ANSWER = {"role": "assistant", "content": "It takes 14 days."}


class Stay(BaseModel):
    """A structured output."""

    days: int


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def recorded() -> Iterator[Captured]:
    with captured() as recorded:
        yield recorded


@pytest.fixture
def client(server: ModelServer) -> Iterator[Any]:
    with OpenAI(base_url=f"{server.address}/v1", api_key="sk") as client:
        yield client


@pytest.fixture
def theirs(server: ModelServer) -> Iterator[Any]:
    with real.OpenAI(base_url=f"{server.address}/v1", api_key="sk") as client:
        yield client


def field(span: CapturedSpan, name: str) -> Any:
    value = span.attributes.get(f"lodestream.observation.{name}")
    return json.loads(value) if isinstance(value, str) and value[:1] in ("{", "[", '"') else value


def only(recorded: Captured) -> CapturedSpan:
    (span,) = recorded.spans
    return span


# --- Clients are the library's ----------------------------------------------------------------------------------------


def test_clients_resources_and_answers_have_the_types_of_the_library(
    client: Any, theirs: Any, recorded: Captured
) -> None:
    assert issubclass(type(client), real.OpenAI)
    for ours, other in (
        (client.chat, theirs.chat),
        (client.chat.completions, theirs.chat.completions),
        (client.responses, theirs.responses),
        (client.images, theirs.images),
    ):
        assert type(ours) is type(other)
    answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    expected = theirs.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert (type(answer), answer) == (type(expected), expected)
    assert pickle.loads(pickle.dumps(answer)) == expected
    stream = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    assert type(stream) is type(theirs.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
    assert list(stream) == list(theirs.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))


def test_only_clients_of_ours_are_observed(theirs: Any, recorded: Captured) -> None:
    theirs.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert recorded.spans == []


def test_copies_of_a_client_are_observed(client: Any, recorded: Captured) -> None:
    copy = client.with_options(timeout=3)
    assert issubclass(type(copy), OpenAI)
    copy.chat.completions.create(model="gpt-4o", messages=MESSAGES, name="copy")
    assert only(recorded).name == "copy"


def test_the_module_with_our_clients(server: ModelServer, recorded: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (openai.OpenAI, openai.AsyncAzureOpenAI) == (OpenAI, AsyncAzureOpenAI)
    assert openai.NotFoundError is real.NotFoundError
    monkeypatch.setattr(real, "base_url", f"{server.address}/v1")
    monkeypatch.setattr(real, "api_key", None)
    openai.api_key = "sk"
    assert real.api_key == "sk"
    assert openai.chat.completions.create(model="gpt-4o", messages=MESSAGES).choices[0].message.content
    assert only(recorded).output == ANSWER


def test_a_client_for_azure(server: ModelServer, recorded: Captured) -> None:
    given: Any = {"azure_endpoint": server.address, "api_key": "sk", "api_version": "2025-01-01"}
    with AzureOpenAI(**given) as azure:
        azure.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert only(recorded).output == ANSWER


# --- Chat -------------------------------------------------------------------------------------------------------------


def test_a_chat(client: Any, recorded: Captured) -> None:
    with lodestream.get_client().start_as_current_observation(name="request"):
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES, temperature=0.5, user="u")
    span = recorded.named("chat gpt-4o")
    assert span.parent_id == recorded.named("request").id
    assert (span.type, span.input, span.output) == ("generation", MESSAGES, ANSWER)
    assert field(span, "model.name") == "gpt-4o"
    assert field(span, "model.parameters") == {"temperature": 0.5, "user": "u"}
    assert field(span, "usage_details") == {"input": 9, "output": 3, "total": 12}
    assert field(span, "metadata.finish_reason") == "stop"
    assert field(span, "metadata.response_id") == "chatcmpl-1"


def test_tools(client: Any, recorded: Captured) -> None:
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES, tools=[TOOL])
    for _ in client.chat.completions.create(model="gpt-4o", messages=MESSAGES, tools=[TOOL], stream=True):
        pass
    whole, streamed = recorded.spans
    assert whole.input == {"messages": MESSAGES, "tools": [TOOL]}
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"order": 7}'}}
    assert whole.output["tool_calls"] == streamed.output["tool_calls"] == [call]
    assert field(streamed, "completion_start_time")


def test_a_stream(client: Any, recorded: Captured) -> None:
    stream = client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    assert recorded.spans == []
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == "It takes 14 days."
    span = only(recorded)
    assert span.output == ANSWER
    assert field(span, "usage_details") == {"input": 9, "output": 3, "total": 12}
    assert field(span, "completion_start_time")
    assert field(span, "metadata.closed_early") is None


def test_the_consumer_of_a_stream_is_not_part_of_it(client: Any, recorded: Captured) -> None:
    for _ in client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True):
        lodestream.get_client().create_event(name="consumer")
    assert {span.parent_id for span in recorded.spans if span.name == "consumer"} == {""}


@pytest.mark.parametrize("how", ["close", "with", "drop", "helper"])
def test_a_stream_that_is_given_up(client: Any, recorded: Captured, how: str) -> None:
    if how == "helper":
        with client.chat.completions.stream(model="gpt-4o", messages=MESSAGES) as helper:
            next(iter(helper))
    else:
        stream = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
        next(stream)
        if how == "close":
            stream.close()
        elif how == "with":
            with stream:
                pass
        else:
            del stream
            gc.collect()
    span = only(recorded)
    assert span.output["content"] == "It "
    assert span.attributes["lodestream.observation.metadata.closed_early"] == "true"
    assert span.level == "DEFAULT"


def test_the_stream_helper_takes_our_arguments(client: Any, recorded: Captured) -> None:
    with client.chat.completions.stream(model="gpt-4o", messages=MESSAGES, name="helper") as stream:
        stream.until_done()
        assert stream.get_final_completion().choices[0].message.content == "It takes 14 days."
    assert (only(recorded).name, only(recorded).output) == ("helper", ANSWER)


def test_structured_outputs(client: Any, recorded: Captured) -> None:
    answer = client.chat.completions.parse(model="gpt-4o", messages=MESSAGES, response_format=Stay, name="parse")
    assert answer.choices[0].message.parsed == Stay(days=14)
    span = recorded.named("parse")
    assert span.output == {"role": "assistant", "content": '{"days": 14}'}
    assert field(span, "model.parameters")["response_format"]["json_schema"]["name"] == "Stay"


def test_pictures_that_are_asked_about_are_not_kept(client: Any, recorded: Captured) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + 4_000 * "A"}}
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": [picture]}])
    assert only(recorded).input[0]["content"][0]["image_url"]["url"] == "<image/png, 3000 bytes>"


# --- Responses, embeddings, images ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["whole", "events", "helper"])
def test_responses(client: Any, recorded: Captured, how: str) -> None:
    asked: dict[str, Any] = {"model": "gpt-5", "input": "How long?", "instructions": "Be brief", "name": "ask"}
    if how == "whole":
        assert client.responses.create(**asked).output_text == "It takes 14 days."
    elif how == "events":
        assert [event.type for event in client.responses.create(**asked, stream=True)][-1] == "response.completed"
    else:
        with client.responses.stream(**asked) as stream:
            assert stream.get_final_response().output_text == "It takes 14 days."
    span = recorded.named("ask")
    assert span.input == {"input": "How long?", "instructions": "Be brief"}
    assert span.output["content"][0]["text"] == "It takes 14 days."
    assert field(span, "usage_details") == {
        "input": 5, "input_cached_tokens": 4, "output": 2, "output_reasoning_tokens": 1, "total": 12,
    }  # fmt: skip
    assert field(span, "metadata.finish_reason") == "completed"
    assert (field(span, "completion_start_time") is None) == (how == "whole")


def test_embeddings_are_not_kept_but_counted(client: Any, recorded: Captured) -> None:
    client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    span = only(recorded)
    assert (span.name, span.type) == ("embeddings text-embedding-3-small", "embedding")
    assert span.output == {"vectors": 2, "dimensions": 2}
    assert field(span, "usage_details") == {"input": 4, "total": 4}


def test_images_are_not_kept_but_described(client: Any, recorded: Captured) -> None:
    client.images.generate(model="gpt-image-1", prompt="a lighthouse", name="paint")
    span = recorded.named("paint")
    assert (span.input, span.output) == ("a lighthouse", {"b64_json": "<3000 bytes in base64>"})
    assert field(span, "usage_details") == {"input": 9, "output": 200, "total": 209}
    assert field(span, "metadata.size") == "1024x1024"


# --- Raw responses ----------------------------------------------------------------------------------------------------


def test_a_raw_response(client: Any, theirs: Any, recorded: Captured) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES, name="raw")
    other = theirs.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES)
    assert type(raw) is type(other)
    assert (raw.text, raw.parse()) == (other.text, other.parse())
    assert recorded.named("raw").output == ANSWER


def test_a_raw_response_that_streams(client: Any, recorded: Captured) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES, stream=True)
    assert len(list(raw.parse())) == 5
    assert only(recorded).output == ANSWER


def test_a_response_that_is_read_later(client: Any, recorded: Captured) -> None:
    streaming = client.chat.completions.with_streaming_response
    with streaming.create(model="gpt-4o", messages=MESSAGES, name="parsed") as response:
        assert recorded.spans == []
        assert response.parse().choices[0].message.content == "It takes 14 days."
    with streaming.create(model="gpt-4o", messages=MESSAGES, name="lines") as response:
        assert list(response.iter_lines())
    with streaming.create(model="gpt-4o", messages=MESSAGES, stream=True, name="chunks") as response:
        assert len(list(response.parse())) == 5
    assert {span.name: span.output for span in recorded.spans} == {"parsed": ANSWER, "lines": None, "chunks": ANSWER}


# --- Our arguments ----------------------------------------------------------------------------------------------------


class Asked:
    """Keeps the bodies of requests."""

    def __init__(self, client: Any) -> None:
        self.bodies: list[Any] = []
        client._prepare_options = self._prepare

    def _prepare(self, options: Any) -> Any:
        self.bodies.append(options.json_data)
        return options


def test_our_arguments_are_for_the_observation_and_not_sent(client: Any, recorded: Captured) -> None:
    asked = Asked(client)
    trace_id = lodestream.Lodestream.create_trace_id(seed="a")
    client.chat.completions.create(
        model="gpt-4o",
        messages=MESSAGES,
        name="ask",
        lodestream_prompt=TextPrompt(name="support", version=4, prompt=""),
        lodestream_metadata={"plan": "pro"},
        lodestream_trace_id=trace_id,
        metadata={"lodestream_user_id": "ada", "lodestream_session_id": "s1", "lodestream_tags": ["web"], "kept": "1"},
    )
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES, metadata={"lodestream_user_id": "ada"})
    plain = {"model": "gpt-4o", "messages": MESSAGES}
    assert asked.bodies == [{**plain, "metadata": {"kept": "1"}}, plain]
    span = recorded.named("ask")
    assert (span.trace_id, span.parent_id) == (trace_id, "")
    assert span.attributes["user.id"] == "ada"
    assert span.attributes["session.id"] == "s1"
    assert span.attributes["lodestream.trace.tags"] == ["web"]
    assert (field(span, "prompt.name"), field(span, "prompt.version")) == ("support", 4)
    assert (field(span, "metadata.plan"), field(span, "metadata.kept")) == ("pro", "1")


def test_our_arguments_are_taken_while_tracing_is_off(client: Any) -> None:
    with captured():
        lodestream.Lodestream(tracing_enabled=False)
    asked = Asked(client)
    client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, name="ask", metadata={"lodestream_user_id": "ada"}
    )
    assert asked.bodies == [{"model": "gpt-4o", "messages": MESSAGES}]


# --- Errors -----------------------------------------------------------------------------------------------------------


def test_an_error_is_recorded_and_raised_unchanged(client: Any, theirs: Any, recorded: Captured) -> None:
    with pytest.raises(real.NotFoundError) as raised:
        client.chat.completions.create(model="missing", messages=MESSAGES)
    with pytest.raises(real.NotFoundError) as expected:
        theirs.chat.completions.create(model="missing", messages=MESSAGES)
    assert (str(raised.value), raised.value.body) == (str(expected.value), expected.value.body)
    span = only(recorded)
    assert span.level == "ERROR"
    assert "no such model" in field(span, "status_message")
    assert span.otlp.events[0].name == "exception"


def test_wrong_arguments_are_told_as_by_the_library(client: Any, recorded: Captured) -> None:
    with pytest.raises(TypeError, match="nonsense"):
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES, nonsense=1)
    assert recorded.spans == []


def test_what_breaks_in_recording_does_not_reach_the_program(
    client: Any, recorded: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LODESTREAM_STRICT", raising=False)

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr("lodestream._integrations.openai_values._message", broken)
    monkeypatch.setattr("lodestream._integrations.openai_values.ChatParts.add", broken)
    assert client.chat.completions.create(model="gpt-4o", messages=MESSAGES).choices
    assert len(list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))) == 5
    monkeypatch.setattr("lodestream._integrations.openai_values.Endpoint.request_fields", broken)
    assert client.chat.completions.create(model="gpt-4o", messages=MESSAGES).choices
    assert len(recorded.spans) == 2


# --- Asynchronous -----------------------------------------------------------------------------------------------------


@pytest.fixture
def aclient(server: ModelServer) -> Any:
    return AsyncOpenAI(base_url=f"{server.address}/v1", api_key="sk")


async def test_asynchronous_calls(aclient: Any, recorded: Captured) -> None:
    assert issubclass(type(aclient), real.AsyncOpenAI)
    async with aclient:
        await aclient.chat.completions.create(model="gpt-4o", messages=MESSAGES, name="whole")
        stream = await aclient.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True, name="stream")
        assert len([chunk async for chunk in stream]) == 5
        async with aclient.chat.completions.stream(model="gpt-4o", messages=MESSAGES, name="helper") as helper:
            await helper.until_done()
        raw = await aclient.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES, name="raw")
        assert raw.parse().choices
        streaming = aclient.chat.completions.with_streaming_response
        async with streaming.create(model="gpt-4o", messages=MESSAGES, name="later") as response:
            assert (await response.parse()).choices
        parsed = await aclient.chat.completions.parse(
            model="gpt-4o", messages=MESSAGES, response_format=Stay, name="parsed"
        )
        assert parsed.choices[0].message.parsed == Stay(days=14)
        await aclient.responses.create(model="gpt-5", input="How long?", name="response")
        await aclient.embeddings.create(model="e", input="a", name="embedding")
    outputs = {span.name: span.output for span in recorded.spans}
    assert outputs.keys() == {"whole", "stream", "helper", "raw", "later", "parsed", "response", "embedding"}
    for name in ("whole", "stream", "helper", "raw", "later"):
        assert outputs[name] == ANSWER, name


async def test_calls_side_by_side_have_their_own_arguments(aclient: Any, recorded: Captured) -> None:
    async with aclient:
        await asyncio.gather(
            *(
                aclient.chat.completions.create(model=f"m{number}", messages=MESSAGES, name=f"n{number}")
                for number in range(5)
            )
        )
    assert {(span.name, field(span, "model.name")) for span in recorded.spans} == {(f"n{n}", f"m{n}") for n in range(5)}


async def test_an_asynchronous_stream_that_is_given_up(aclient: Any, recorded: Captured) -> None:
    async with aclient:
        stream = await aclient.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
        await anext(stream)
        await stream.close()
    assert only(recorded).output["content"] == "It "


async def test_a_call_that_is_cancelled(recorded: Captured) -> None:
    begun = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    port = cast("int", server.sockets[0].getsockname()[1])
    async with server, AsyncOpenAI(base_url=f"http://127.0.0.1:{port}", api_key="sk") as client:
        create: Any = client.chat.completions.create
        task = asyncio.create_task(create(model="gpt-4o", messages=MESSAGES))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    span = only(recorded)
    assert (span.level, field(span, "status_message")) == ("WARNING", "CancelledError")


# --- The guide --------------------------------------------------------------------------------------------------------


def test_the_guide_runs(
    server: ModelServer, recorded: Captured, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.address}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk")
    page = Path(__file__).parents[2] / "docs" / "guides" / "openai.md"
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        exec(block, names)
    names["client"].close()
    assert capsys.readouterr().out == "It takes 14 days.\nIt takes 14 days.\n"
    assert [span.name for span in recorded.spans] == ["chat gpt-5", "responses", "answer", "support-answer"]
