"""A support assistant over a small knowledge base, traced from the first question to the last token.

    make up                                       # in another terminal
    .venv/bin/python examples/rag_support.py

Four customers ask about refunds, deliveries and warranties. Each question becomes a trace: what was searched, which
tool was called, what the model was told and what it said. The retriever is a real one (BM25 over knowledge_base/*.md);
the model is a mock that quotes what it was given, so that the same question gets the same answer. Some searches are
slow, and the order service fails once: there is something to find. At the end the command line shows what has arrived.
"""

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import bm25s
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

ENDPOINT = os.environ.get("LODESTREAM_ENDPOINT", "127.0.0.1:4317")
SECRET_KEY = os.environ.get("LODESTREAM_SECRET_KEY", "sk-ls-local")  # the key of a stack that `make up` started
RUN = uuid4().hex[:6]  # keeps the sessions of several runs apart

Message = dict[str, str]
tracer = trace.get_tracer("examples.rag_support")


# --- What the customers ask -------------------------------------------------------------------------------------------


@dataclass
class Conversation:
    """One customer's chat."""

    customer: str
    channel: str
    questions: Sequence[str]
    history: list[Message] = field(default_factory=list)

    @property
    def session(self) -> str:
        """The same for all questions of the chat."""
        return f"{self.customer}-{RUN}"


CONVERSATIONS = [
    Conversation("ada", "web", ["How long does a refund take?", "And if I paid by invoice?"]),
    Conversation("ben", "app", ["Where is my order 1042?", "Can I still change the delivery address?"]),
    Conversation("chen", "e-mail", ["My kettle stopped working after 14 months. Is that under warranty?"]),
    Conversation("dora", "web", ["Where is my order 9999? I want a refund!", "Do you ship to Norway?"]),
]


# --- The assistant ----------------------------------------------------------------------------------------------------

ARTICLES = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("knowledge_base/*.md"))]
COLD_WORDS = ("warranty", "norway")  # they lie in a part of the index that is slow to load
SEARCH_SECONDS, COLD_SECONDS, ORDER_SECONDS, ORDER_TIMEOUT_SECONDS = 0.06, 0.45, 0.12, 0.3
ORDERS = {
    "1042": "Order 1042 left our warehouse yesterday and arrives tomorrow.",
    "1077": "Order 1077 is being packed.",
}


class OrderServiceTimeoutError(Exception):
    """The order service did not answer in time."""


def support_question(question: str, chat: Conversation, index: bm25s.BM25) -> str:
    """Answer a customer; what was said before helps to understand the question. Gives the id of the trace."""
    about = {"user.id": chat.customer, "session.id": chat.session, "tag.tags": ["support", chat.channel]}
    with tracer.start_as_current_span("support-question", attributes=about) as span:
        span.set_attributes({"gen_ai.operation.name": "invoke_agent", "input": question})
        asked = question
        if chat.history:
            asked = ask_model("rewrite-question", "mock-small", [*chat.history, said("user", question)], rewrite)
        facts = search(asked, index)
        if order := re.search(r"\border (\d{4})\b", question):
            facts.insert(0, order_status(order[1]))
        instructions = said("system", "\n\n".join(facts))
        answer = ask_model("answer", "mock-large", [instructions, *chat.history, said("user", question)], quote)
        chat.history += [said("user", question), said("assistant", answer)]
        span.set_attribute("output", answer)
        print(
            f"{chat.customer}: {question}", textwrap.indent(textwrap.fill(answer, 74), "      "), sep="\n", flush=True
        )
        return f"{span.get_span_context().trace_id:032x}"


def search(question: str, index: bm25s.BM25, best: int = 3) -> list[str]:
    """The articles that fit the question best."""
    with tracer.start_as_current_span("search", attributes={"gen_ai.operation.name": "retrieval"}) as span:
        span.set_attribute("gen_ai.retrieval.query.text", question)
        time.sleep(COLD_SECONDS if any(word in question.lower() for word in COLD_WORDS) else SEARCH_SECONDS)
        found, scores = index.retrieve(tokenize([question]), k=best, show_progress=False)
        articles = [ARTICLES[number] for number in found[0]]
        documents = [
            {"id": article.splitlines()[0].removeprefix("# "), "score": round(float(score), 2)}
            for article, score in zip(articles, scores[0], strict=True)
        ]
        span.set_attribute("gen_ai.retrieval.documents", json.dumps(documents))
        return articles


def order_status(number: str) -> str:
    """What the customer can be told of an order; an apology when the order service is away."""
    try:
        return look_up_order(number)
    except OrderServiceTimeoutError:
        return f"I am sorry, I can not see order {number} at the moment and will write to you within the hour."


def look_up_order(number: str) -> str:
    """Ask the order service. An exception that leaves a span marks it as an error, with the message."""
    with tracer.start_as_current_span("look-up-order", attributes={"gen_ai.operation.name": "execute_tool"}) as span:
        span.set_attribute("gen_ai.tool.call.arguments", json.dumps({"order": number}))
        if number not in ORDERS:
            time.sleep(ORDER_TIMEOUT_SECONDS)
            raise OrderServiceTimeoutError(f"no answer about order {number} within {ORDER_TIMEOUT_SECONDS} s")
        time.sleep(ORDER_SECONDS)
        span.set_attribute("gen_ai.tool.call.result", ORDERS[number])
        return ORDERS[number]


# --- The mock model ---------------------------------------------------------------------------------------------------

FIRST_TOKEN_SECONDS, TOKEN_SECONDS = {"mock-small": 0.04, "mock-large": 0.15}, 0.004


def ask_model(name: str, model: str, messages: Sequence[Message], reply: Callable[[Sequence[Message]], str]) -> str:
    """What the model replies, after the time that so many tokens take; told in the conventions for generative AI."""
    with tracer.start_as_current_span(name, attributes={"gen_ai.operation.name": "chat"}) as span:
        text = reply(messages)
        received = tokens(text)
        time.sleep(FIRST_TOKEN_SECONDS[model] + received * TOKEN_SECONDS)
        span.set_attributes(
            {
                "gen_ai.provider.name": "mock",
                "gen_ai.request.model": model,
                "gen_ai.input.messages": json.dumps(messages),
                "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": text}]),
                "gen_ai.response.time_to_first_chunk": FIRST_TOKEN_SECONDS[model],
                "gen_ai.usage.input_tokens": sum(tokens(message["content"]) for message in messages),
                "gen_ai.usage.output_tokens": received,
            }
        )
        return text


def rewrite(messages: Sequence[Message]) -> str:
    """The last question, with what the conversation was about."""
    before = next(message["content"] for message in messages if message["role"] == "user")
    return f"{messages[-1]['content']} (asked before: {before})"


def quote(messages: Sequence[Message]) -> str:
    """The first two sentences of the first thing the instructions say, without its title."""
    first = re.sub(r"^# .*\n+", "", messages[0]["content"]).partition("\n\n")[0]
    return " ".join(re.split(r"(?<=[.!?])\s+", " ".join(first.split()))[:2])


def tokens(text: str) -> int:
    """Roughly what a model would count."""
    return len(text) // 4 + 1


def said(role: str, content: str) -> Message:
    """A message."""
    return {"role": role, "content": content}


# --- Tracing, and looking at what has arrived -------------------------------------------------------------------------


def main() -> None:
    """Have the conversations, deliver their traces, and show them. Exit code 1: some did not arrive."""
    provider = TracerProvider(
        resource=Resource(
            {"service.name": "rag-support", "deployment.environment.name": "demo", "service.version": "1.2"}
        )
    )
    exporter = OTLPSpanExporter(
        endpoint=f"http://{ENDPOINT}", headers={"authorization": f"Bearer {SECRET_KEY}"}, insecure=True
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

    index = bm25s.BM25()
    index.index(tokenize(ARTICLES), show_progress=False)
    made = [support_question(question, chat, index) for chat in CONVERSATIONS for question in chat.questions]
    provider.shutdown()  # exports what is left

    print(f"\n{len(made)} questions were answered; waiting until their traces can be read …", flush=True)
    missing = wait_for(set(made))
    show(made)
    if missing:
        sys.exit(f"did not arrive within {PATIENCE_SECONDS} s: {', '.join(sorted(missing))}")


PATIENCE_SECONDS = 20


def wait_for(made: set[str]) -> set[str]:
    """Wait until the traces can be read; gives those that could not be."""
    sessions = [option for chat in CONVERSATIONS for option in ("--session", chat.session)]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        listed = lodestream("traces", "list", *sessions, "--json", quiet=True)
        arrived = {each["trace_id"] for each in json.loads(listed)["traces"] if each["root_seen"]} if listed else set()
        if made <= arrived or time.monotonic() > deadline:
            return made - arrived
        time.sleep(0.2)


def show(made: Sequence[str]) -> None:
    """All traces in a list; then one with two turns behind it, and the one with the error."""
    for words_of_command in (
        ["traces", "list", "-n", str(len(made))],
        ["traces", "get", made[1]],
        ["traces", "get", made[5]],
    ):
        print(f"\n$ lodestream {' '.join(words_of_command)}", flush=True)
        lodestream(*words_of_command)
    print("\nMore to try:")
    for words_of_command in (
        ["traces", "get", made[5], "--content"],
        ["traces", "list", "--has-error"],
        ["sessions", "get", CONVERSATIONS[0].session],
        ["traces", "tail"],
        ["status"],
    ):
        print(f"  $ lodestream {' '.join(words_of_command)}")


def lodestream(*words_of_command: str, quiet: bool = False) -> str:
    """Run the command line on this terminal; when `quiet`, give what it wrote instead, nothing when it failed."""
    command = [str(Path(sys.executable).with_name("lodestream")), *words_of_command]
    environment = {**os.environ, "LODESTREAM_ENDPOINT": ENDPOINT, "LODESTREAM_SECRET_KEY": SECRET_KEY}
    ran = subprocess.run(command, env=environment, text=True, capture_output=quiet, check=False)  # noqa: S603
    return ran.stdout if quiet else ""


def tokenize(texts: list[str]) -> bm25s.tokenization.Tokenized:
    """Words as the retriever counts them."""
    return bm25s.tokenize(texts, stopwords="en", show_progress=False)


if __name__ == "__main__":
    main()
