"""Tests of `lodestream.langchain`, run by pytest in an environment with the newest LangChain and LangGraph.

What is recorded is compared with what LangChain's own tracer saw, and with what the program itself noted.
"""

import asyncio
import contextvars
import gc
import json
import os
import re
import runpy
import threading
import weakref
from pathlib import Path

import lodestream
import lodestream.langchain
import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.tools import tool
from langchain_core.tracers.base import BaseTracer
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from lodestream import ChatPrompt, TextPrompt
from lodestream.langchain import CallbackHandler
from lodestream.testing import captured
from typing_extensions import TypedDict

SERVER = os.environ["MODEL_SERVER"]


class LangChainsOwn(BaseTracer):
    """Keeps the trees of runs that LangChain itself makes of its callbacks."""

    run_inline = True

    def __init__(self):
        super().__init__()
        self.roots = []

    def _persist_run(self, run):
        self.roots.append(run)

    def tree(self):
        return sorted(map(self._node, self.roots))

    def _node(self, run):
        return (run.name, *sorted(map(self._node, run.child_runs)))


def recorded_tree(recorded, only=None):
    """The names of observations as nested tuples, without those that are not LangChain's."""

    def node(span):
        return (span.name, *sorted(node(each) for each in recorded.spans if each.parent_id == span.id and shown(each)))

    def shown(span):
        return only is None or span.name not in only

    return sorted(node(span) for span in recorded.spans if not span.parent_id and shown(span))


def parent_name(recorded, name):
    span = recorded.named(name)
    return next((each.name for each in recorded.spans if each.id == span.parent_id), "")


@pytest.fixture
def recorded():
    with captured() as recorded:
        yield recorded


@pytest.fixture
def theirs():
    return LangChainsOwn()


@pytest.fixture
def handler():
    handler = CallbackHandler()
    yield handler
    assert not handler._runs, "runs that ended are kept"


@pytest.fixture
def config(theirs, handler):
    return {"callbacks": [theirs, handler]}


def chat(model="gpt-4o", **given):
    return ChatOpenAI(model=model, base_url=f"{SERVER}/v1", api_key="sk", **given)


@lodestream.observe
def query(order):
    return f"order {order} is on its way"


@tool
def look_up(order: int) -> str:
    """Where an order is."""
    return query(order)


@tool
async def look_up_later(order: int) -> str:
    """Where an order is."""
    await asyncio.sleep(0)
    return query(order)


def chain():
    return ChatPromptTemplate.from_template("Answer: {question}") | chat(temperature=0.5) | StrOutputParser()


# --- Trees ------------------------------------------------------------------------------------------------------------


def test_an_agent_with_its_tool(recorded, theirs, config):
    agent = create_agent(chat(), [look_up], name="support")
    with lodestream.get_client().start_as_current_observation(name="request"):
        agent.invoke({"messages": [("user", "Where is order 7?")]}, config)
    ((request, *below),) = recorded_tree(recorded, only={"query"})
    assert (request, below) == ("request", theirs.tree())
    assert parent_name(recorded, "query") == "look_up"
    assert recorded.named("support").type == "agent"
    assert recorded.named("look_up").type == "tool"
    assert recorded.named("look_up").input == {"order": 7}
    assert recorded.named("support").output["messages"][-1]["content"] == "It takes 14 days."
    generations = [span for span in recorded.spans if span.type == "generation"]
    assert [span.output.get("tool_calls", [{}])[0].get("name") for span in generations] == ["look_up", None]
    assert generations[0].input["tools"][0]["function"]["name"] == "look_up"
    assert {span.trace_id for span in recorded.spans} == {recorded.named("request").trace_id}


async def test_an_asynchronous_agent(recorded, theirs, config):
    agent = create_agent(chat(), [look_up_later], name="support")
    await asyncio.gather(*(agent.ainvoke({"messages": [("user", "Where is order 7?")]}, config) for _ in range(3)))
    assert recorded_tree(recorded, only={"query"}) == theirs.tree()
    tools = {span.id for span in recorded.spans if span.name == "look_up_later"}
    assert {span.parent_id for span in recorded.spans if span.name == "query"} == tools
    assert len(tools) == 3


def test_a_stream_whose_consumer_is_not_part_of_it(recorded, theirs, config):
    with lodestream.get_client().start_as_current_observation(name="request"):
        for _ in chain().stream({"question": "How long?"}, config):
            query(1)
    ((_, *below),) = recorded_tree(recorded, only={"query"})
    assert below == theirs.tree()
    request = recorded.named("request")
    assert {span.parent_id for span in recorded.spans if span.name == "query"} == {request.id}
    generation = recorded.named("ChatOpenAI")
    began = generation.otlp.start_time_unix_nano
    assert generation.attributes["lodestream.observation.completion_start_time"]
    assert began < generation.otlp.end_time_unix_nano
    assert recorded.named("RunnableSequence").input == {"question": "How long?"}
    assert recorded.named("RunnableSequence").output == "It takes 14 days."


async def test_an_asynchronous_stream_of_a_graph(recorded, theirs, config):
    agent = create_agent(chat(), [look_up], name="support")
    async for _ in agent.astream({"messages": [("user", "Where is order 7?")]}, config, stream_mode="messages"):
        query(1)
    mine = [span for span in recorded.spans if span.name == "query"]
    assert recorded_tree(recorded, only={"query"}) == theirs.tree()
    tool_id = recorded.named("look_up").id
    assert sorted(span.parent_id for span in mine if span.parent_id) == [tool_id]
    assert len(mine) > 1


def test_a_stream_that_is_given_up(recorded, theirs, config):
    stream = chain().stream({"question": "How long?"}, config)
    next(stream)
    stream.close()
    assert recorded_tree(recorded) == theirs.tree()
    assert recorded.named("RunnableSequence").level in ("DEFAULT", "WARNING")


def test_batches_and_threads(recorded, theirs, config):
    step = RunnableParallel(a=RunnableLambda(query, name="a"), b=RunnableLambda(query, name="b"))
    both = RunnablePassthrough() | step
    assert len(both.batch([1, 2, 3, 4], config)) == 4
    assert recorded_tree(recorded, only={"query"}) == theirs.tree()
    lambdas = {span.id for span in recorded.spans if span.name in ("a", "b")}
    assert {span.parent_id for span in recorded.spans if span.name == "query"} == lambdas
    assert len(lambdas) == 8


def test_a_chain_within_what_a_node_began(recorded, theirs, config):
    inner = RunnableLambda(query, name="inner")

    def outer(x):
        with lodestream.get_client().start_as_current_observation(name="between"):
            lodestream.get_client().update_current_span(metadata={"marked": True})
            return inner.invoke(x)

    RunnableLambda(outer, name="outer").invoke(1, config)
    assert parent_name(recorded, "query") == "inner"
    assert parent_name(recorded, "inner") == "between"
    assert parent_name(recorded, "between") == "outer"
    assert "lodestream.observation.metadata.marked" in recorded.named("between").attributes


def test_what_is_current_in_a_tool_is_the_tool(recorded, config):
    @tool
    def measure(order: int) -> str:
        """Where an order is."""
        lodestream.get_client().update_current_span(metadata={"rows": 3})
        lodestream.get_client().score_current_span(name="good", value=1)
        with lodestream.propagate_attributes(user_id="ada"):
            return query(order)

    measure.invoke({"order": 7}, config)
    assert recorded.named("measure").attributes["lodestream.observation.metadata.rows"] == "3"
    assert recorded.scores[0].observation_id == recorded.named("measure").id
    assert parent_name(recorded, "query") == "measure"
    assert recorded.named("query").attributes["user.id"] == "ada"


def test_several_threads_with_one_handler(recorded, theirs, handler):
    def run():
        chain().invoke({"question": "How long?"}, {"callbacks": [handler]})

    threads = [threading.Thread(target=contextvars.copy_context().run, args=(run,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorded_tree(recorded) == 8 * [
        ("RunnableSequence", ("ChatOpenAI",), ("ChatPromptTemplate",), ("StrOutputParser",))
    ]


# --- What observations say --------------------------------------------------------------------------------------------


def test_a_generation_says_its_model_parameters_and_tokens(recorded, config):
    chain().invoke({"question": "How long?"}, config)
    generation = recorded.named("ChatOpenAI")
    attributes = generation.attributes
    assert generation.input == [{"role": "user", "content": "Answer: How long?"}]
    assert generation.output == {"role": "assistant", "content": "It takes 14 days."}
    assert attributes["lodestream.observation.model.name"] == "gpt-4o"
    assert attributes["lodestream.observation.model.parameters"] == '{"temperature":0.5}'
    assert attributes["lodestream.observation.usage_details"] == '{"input":9,"output":3,"total":12}'
    assert attributes["lodestream.observation.metadata.finish_reason"] == '"stop"'


def test_cached_and_reasoning_tokens(recorded, config):
    usage = {
        "input_tokens": 100, "output_tokens": 50, "total_tokens": 150,
        "input_token_details": {"cache_read": 60, "cache_creation": 10}, "output_token_details": {"reasoning": 20},
    }  # fmt: skip
    GenericFakeChatModel(messages=iter([AIMessage("x", usage_metadata=usage)])).invoke("hello", config)
    assert json.loads(recorded.spans[0].attributes["lodestream.observation.usage_details"]) == {
        "input": 30, "input_cached_tokens": 60, "input_cache_creation": 10,
        "output": 30, "output_reasoning_tokens": 20, "total": 150,
    }  # fmt: skip


def test_pictures_are_not_kept(recorded, config):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + 4_000 * "A"}}
    chat().invoke([("user", [{"type": "text", "text": "What is it?"}, picture])], config)
    assert recorded.spans[0].input[0]["content"][1]["image_url"]["url"] == "<image/png, 3000 bytes>"


def test_a_retriever_with_its_documents(recorded, config):
    class Shelf(BaseRetriever):
        def _get_relevant_documents(self, query, *, run_manager):
            return [Document("14 days", metadata={"source": "refunds"}, id="d1")]

    Shelf().invoke("How long?", config)
    span = recorded.named("Shelf")
    assert (span.type, span.input) == ("retriever", "How long?")
    assert span.output == [{"page_content": "14 days", "metadata": {"source": "refunds"}, "id": "d1"}]


def test_user_session_and_tags_of_the_call(recorded, config):
    metadata = {"lodestream_user_id": "ada", "lodestream_session_id": "s1", "lodestream_tags": ["beta"], "plan": "pro"}
    agent = create_agent(chat(), [look_up], name="support")
    agent.invoke(
        {"messages": [("user", "Where is order 7?")]},
        {**config, "metadata": {**metadata, "lodestream_trace_name": "help"}, "tags": ["web"]},
    )
    for span in recorded.spans:
        assert span.attributes["user.id"] == "ada", span.name
        assert span.attributes["session.id"] == "s1", span.name
        assert span.attributes["lodestream.trace.tags"] == ["beta", "web"], span.name
        assert span.attributes["lodestream.trace.name"] == "help", span.name
    assert recorded.named("support").attributes["lodestream.observation.metadata.plan"] == '"pro"'
    assert not any(".metadata.lodestream_" in key for span in recorded.spans for key in span.attributes)
    assert [span.name for span in recorded.spans if "lodestream.observation.metadata.plan" in span.attributes] == [
        "support"
    ]


def test_the_plain_names_of_user_and_session(recorded, config):
    RunnableLambda(query).invoke(1, {**config, "metadata": {"user_id": "ada", "thread_id": "t1"}})
    assert {span.attributes["user.id"] for span in recorded.spans} == {"ada"}
    assert {span.attributes["session.id"] for span in recorded.spans} == {"t1"}


def test_a_prompt_is_linked_to_the_generation_it_is_for(recorded, config):
    first = ChatPrompt(name="ask", version=3, prompt=({"role": "user", "content": 'As {"json": 1}: {{question}}'},))
    second = TextPrompt(name="again", version=5, prompt="Again: {{answer}}")
    one = ChatPromptTemplate(first.get_langchain_prompt(), metadata={"lodestream_prompt": first})
    two = PromptTemplate.from_template(second.get_langchain_prompt(), metadata={"lodestream_prompt": second})
    model = chat().with_config(run_name="model")
    steps = (
        one | model | StrOutputParser() | {"answer": RunnablePassthrough()} | two | model | StrOutputParser() | model
    )
    steps.invoke({"question": "How long?"}, config)
    generations = sorted(
        (span for span in recorded.spans if span.type == "generation"), key=lambda span: span.otlp.start_time_unix_nano
    )
    assert [span.attributes.get("lodestream.observation.prompt.name") for span in generations] == ["ask", "again", None]
    assert [span.attributes.get("lodestream.observation.prompt.version") for span in generations] == [3, 5, None]
    assert generations[0].input[0]["content"] == 'As {"json": 1}: How long?'


# --- Errors, retries, interrupts --------------------------------------------------------------------------------------


def test_an_error_of_a_model(recorded, config):
    with pytest.raises(Exception, match="no such model"):
        chat("missing", max_retries=0).invoke("x", config)
    assert recorded.spans[0].level == "ERROR"
    assert "no such model" in recorded.spans[0].attributes["lodestream.observation.status_message"]
    assert recorded.spans[0].otlp.events[0].name == "exception"


def test_an_error_of_a_tool_in_an_agent(recorded, theirs, config):
    @tool
    def look_up(order: int) -> str:
        """Where an order is."""
        raise ValueError("no such order")

    with pytest.raises(ValueError, match="no such order"):
        create_agent(chat(), [look_up]).invoke({"messages": [("user", "Where?")]}, config)
    assert recorded_tree(recorded) == theirs.tree()
    assert recorded.named("look_up").level == "ERROR"
    assert recorded.named("LangGraph").level == "ERROR"


def test_retries_are_runs_of_their_own(recorded, theirs, config):
    tries = []

    def flaky(x):
        tries.append(x)
        if len(tries) < 3:
            raise ConnectionError("away")
        return x

    step = RunnableLambda(flaky, name="flaky").with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
    assert step.invoke(1, config) == 1
    *attempts, whole = recorded.spans
    assert [span.level for span in attempts] == ["ERROR", "ERROR", "DEFAULT"]
    assert {span.parent_id for span in attempts} == {whole.id}
    assert whole.level == "DEFAULT"
    assert recorded_tree(recorded) == theirs.tree()


class State(TypedDict):
    answer: str


def test_an_interrupt_and_its_resume(recorded, theirs, config):
    def ask(state):
        return {"answer": interrupt({"question": "really?"})}

    graph = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    app = graph.compile(checkpointer=InMemorySaver(), name="approval")
    run = {**config, "configurable": {"thread_id": "t1"}}
    app.invoke({"answer": ""}, run)
    assert app.invoke(Command(resume="yes"), run) == {"answer": "yes"}
    assert recorded_tree(recorded) == theirs.tree()
    asked, answered = (span for span in recorded.spans if span.name == "ask")
    assert (asked.level, asked.output, asked.otlp.status.code) == ("DEFAULT", [{"question": "really?"}], 0)
    assert asked.attributes["lodestream.observation.status_message"] == "GraphInterrupt"
    assert answered.output == {"answer": "yes"}
    first, second = (span for span in recorded.spans if span.name == "approval")
    assert first.level == second.level == "DEFAULT"
    assert second.input["resume"] == "yes"
    assert {span.attributes["session.id"] for span in recorded.spans} == {"t1"}


# --- The guide --------------------------------------------------------------------------------------------------------


def test_the_guide_runs(recorded, capsys):
    page = Path(__file__).parents[4] / "docs" / "guides" / "langchain.md"
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        exec(block, names)
    assert capsys.readouterr().out == "It takes 14 days.\n"
    first, second, chain = (span for span in recorded.spans if not span.parent_id)
    assert (first.name, second.name, chain.name) == ("support", "support", "RunnableSequence")
    assert second.attributes["session.id"] == "chat-7"
    names = {span.id: span.name for span in recorded.spans}
    assert {names[span.parent_id] for span in recorded.spans if span.name == "orders"} == {"look_up"}


def test_the_example_calls_two_tools_of_the_mock_model(recorded, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{os.environ['MOCK_MODEL']}/v1")
    example = runpy.run_path(str(Path(__file__).parents[4] / "examples" / "langgraph_agent.py"))
    assert example["main"]() == "Order 7 left the warehouse this morning. A refund takes up to 14 days."
    asked, answered = (span for span in recorded.spans if span.type == "generation")
    assert [call["name"] for call in asked.output["tool_calls"]] == ["look_up_order", "search_articles"]
    assert recorded.named("look_up_order").input == {"number": 7}
    assert parent_name(recorded, "query_orders") == "look_up_order"
    assert answered.output["content"].startswith("Order 7")
    assert {span.attributes["session.id"] for span in recorded.spans} == {"chat-7"}


def test_all_lists_what_is_exported():
    assert lodestream.langchain.__all__ == ["CallbackHandler"]


# --- Harms nobody -----------------------------------------------------------------------------------------------------


def test_what_is_recorded_of_cannot_break_the_program(recorded, config):
    class Odd:
        def __getattr__(self, name):
            raise RuntimeError(name)

    odd = Odd()
    assert RunnableLambda(lambda x: x).invoke(odd, config) is odd
    assert recorded.named("RunnableLambda").level == "DEFAULT"


def test_a_run_ends_also_when_its_result_cannot_be_read(recorded, config, monkeypatch):
    def broken(response):
        raise RuntimeError("broken")

    monkeypatch.setattr("lodestream.langchain.result_fields", broken)
    assert chain().invoke({"question": "How long?"}, config) == "It takes 14 days."
    assert recorded.named("ChatOpenAI").output is None


def test_tracing_that_is_off(config):
    lodestream.Lodestream(tracing_enabled=False)
    assert chain().invoke({"question": "How long?"}, config) == "It takes 14 days."


def test_runs_that_never_end_are_bounded(recorded, monkeypatch):
    monkeypatch.setattr(lodestream.langchain, "MAX_RUNS", 5)
    handler = CallbackHandler()
    for number in range(8):
        handler.on_chain_start({"name": str(number)}, {}, run_id=number)
    assert sorted(handler._runs) == [3, 4, 5, 6, 7]
    assert [(span.name, span.level) for span in recorded.spans] == [
        ("0", "WARNING"),
        ("1", "WARNING"),
        ("2", "WARNING"),
    ]


def test_what_ended_is_let_go_of(recorded, handler):
    class Given:
        pass

    given = Given()
    kept = weakref.ref(given)
    RunnableLambda(lambda x: 1).invoke(given, {"callbacks": [handler]})
    del given
    gc.collect()
    assert kept() is None


async def test_a_cancelled_call_leaves_what_is_current_as_it_was(recorded):
    async def waits(x):
        await asyncio.Event().wait()

    handler = CallbackHandler()
    task = asyncio.create_task(RunnableLambda(waits).ainvoke(1, {"callbacks": [handler]}))
    await asyncio.sleep(0)
    while not handler._runs:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    query(1)
    assert recorded.named("query").parent_id == ""
