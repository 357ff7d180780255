"""A support assistant over a small knowledge base, traced from the first question to the last token.

    make up                                       # in another terminal
    .venv/bin/python examples/rag_support.py

Four customers ask about refunds, deliveries and warranties. Each question becomes a trace: what was searched, which
tool was called, what the model was told and what it said. Answers are judged by a
rule, and by the customers. The retriever is a real one (BM25 over knowledge_base/*.md);
the model is a mock that quotes what it was given, so that the same question gets the same answer. Some searches are
slow, and the order service fails once: there is something to find. Half-way somebody lets another version of the prompt
go to production; the assistant goes on without a restart, and answers more briefly. At the end the command line shows
what has arrived.
"""

import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import bm25s
from lodestream import Lodestream, PromptNotFoundError, get_client, observe, propagate_attributes
from lodestream.mock import MockModel

ENDPOINT = os.environ.get("LODESTREAM_ENDPOINT", "127.0.0.1:4317")
SECRET_KEY = os.environ.get("LODESTREAM_SECRET_KEY", "sk-ls-local")  # the key of a stack that `make up` started
RUN = uuid4().hex[:6]  # keeps the sessions of several runs apart
COMMAND = os.path.relpath(Path(sys.executable).with_name("lodestream"))

Message = Mapping[str, str]


# --- What the customers ask -------------------------------------------------------------------------------------------


@dataclass
class Conversation:
    """One customer's chat."""

    customer: str
    channel: str
    questions: Sequence[str]
    stars: int
    """What the customer gives it in the end, of five."""
    history: list[Message] = field(default_factory=list)

    @property
    def session(self) -> str:
        """The same for all questions of the chat."""
        return f"{self.customer}-{RUN}"


CONVERSATIONS = [
    Conversation("ada", "web", ["How long does a refund take?", "And if I paid by invoice?"], stars=5),
    Conversation("ben", "app", ["Where is my order 1042?", "Can I still change the delivery address?"], stars=4),
    Conversation("chen", "e-mail", ["My kettle stopped working after 14 months. Is that under warranty?"], stars=4),
    Conversation("dora", "web", ["Where is my order 9999? I want a refund!", "Do you ship to Norway?"], stars=2),
]


# --- The prompt -------------------------------------------------------------------------------------------------------

PROMPT = "support-answer"
FACTS = {"type": "placeholder", "name": "facts"}
QUESTION = {"role": "user", "content": "{{question}}"}
IN_FULL, IN_SHORT = (
    [{"role": "system", "content": f"Answer the customer from what follows, in {length}."}, FACTS, QUESTION]
    for length in ("two sentences", "one sentence")
)


def prepare_prompt() -> None:
    """Version 1 is in production, version 2 waits; both are made when there are none."""
    client = get_client()
    try:
        client.update_prompt(PROMPT, 1, ["production"])
    except PromptNotFoundError:
        client.create_prompt(PROMPT, IN_FULL, labels=["production"], config={"temperature": 0.0})
        client.create_prompt(
            PROMPT, IN_SHORT, labels=["staging"], config={"temperature": 0.0}, commit_message="shorter"
        )


def swap_prompt() -> None:
    """Let version 2 go to production, as a prompt's owner would, and wait until this program has been told."""
    run("prompts", "diff", PROMPT, "production", "staging")
    run("prompts", "label", PROMPT, "2", "production")
    moved = time.monotonic()
    while get_client().get_prompt(PROMPT).version != 2:
        if time.monotonic() - moved > SWAP_SECONDS:
            sys.exit(f"this program has not been told of the label's move within {SWAP_SECONDS} s")
        time.sleep(0.001)
    print("the assistant, which was not restarted, has version 2\n", flush=True)


# --- The assistant ----------------------------------------------------------------------------------------------------

ARTICLES = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("knowledge_base/*.md"))]
COLD_WORDS = ("warranty", "norway")  # they lie in a part of the index that is slow to load
SEARCH_SECONDS, COLD_SECONDS, ORDER_SECONDS, ORDER_TIMEOUT_SECONDS = 0.06, 0.45, 0.12, 0.3
SWAP_SECONDS = 10
ORDERS = {
    "1042": "Order 1042 left our warehouse yesterday and arrives tomorrow.",
    "1077": "Order 1077 is being packed.",
}


class OrderServiceTimeoutError(Exception):
    """The order service did not answer in time."""


def support_question(question: str, chat: Conversation) -> str:
    """Answer a customer, in a trace of its own; gives the trace's id."""
    with (
        propagate_attributes(user_id=chat.customer, session_id=chat.session, tags=["support", chat.channel]),
        get_client().start_as_current_observation(name="support-question", as_type="agent", input=question) as whole,
    ):
        reply = answer(question, chat.history)
        whole.update(output=reply)
        whole.score_trace(name="resolved", value="I am sorry" not in reply)
    chat.history += [said("user", question), said("assistant", reply)]
    print(f"{chat.customer}: {question}", textwrap.indent(textwrap.fill(reply, 74), "      "), sep="\n", flush=True)
    return whole.trace_id


def answer(question: str, history: Sequence[Message]) -> str:
    """What was said before helps to understand the question."""
    asked = question
    if history:
        asked = rewriter.chat([*history, said("user", question)], name="rewrite-question").text
    articles = search(asked)
    facts = [article["text"] for article in articles]
    if order := re.search(r"\border (\d{4})\b", question):
        facts.insert(0, order_status(order[1]))
    prompt = get_client().get_prompt(PROMPT, type="chat")
    messages = prompt.compile(facts=[said("system", fact) for fact in facts], question=asked)
    return writer.chat(messages, name="answer", prompt=prompt, **prompt.config).text


@observe(as_type="retriever")
def search(question: str, best: int = 3) -> list[dict[str, Any]]:
    """The articles that fit the question best."""
    time.sleep(COLD_SECONDS if any(word in question.lower() for word in COLD_WORDS) else SEARCH_SECONDS)
    found, scores = index.retrieve(tokenize([question]), k=best, show_progress=False)
    return [
        {"id": ARTICLES[number].splitlines()[0].removeprefix("# "), "score": float(score), "text": ARTICLES[number]}
        for number, score in zip(found[0], scores[0], strict=True)
    ]


def order_status(number: str) -> str:
    """What the customer can be told of an order; an apology when the order service is away."""
    try:
        return look_up_order(number)
    except OrderServiceTimeoutError:
        return f"I am sorry, I can not see order {number} at the moment and will write to you within the hour."


@observe(name="look-up-order", as_type="tool")
def look_up_order(order: str) -> str:
    """Ask the order service. An exception that leaves an observed function marks it as an error, with the message."""
    if order not in ORDERS:
        time.sleep(ORDER_TIMEOUT_SECONDS)
        raise OrderServiceTimeoutError(f"no answer about order {order} within {ORDER_TIMEOUT_SECONDS} s")
    time.sleep(ORDER_SECONDS)
    return ORDERS[order]


def rewrite(messages: Sequence[Message]) -> str:
    """The last question, with what the conversation was about."""
    before = next(message["content"] for message in messages if message["role"] == "user")
    return f"{messages[-1]['content']} (asked before: {before})"


def said(role: str, content: str) -> Message:
    """A message."""
    return {"role": role, "content": content}


def tokenize(texts: list[str]) -> bm25s.tokenization.Tokenized:
    """Words as the retriever counts them."""
    return bm25s.tokenize(texts, stopwords="en", show_progress=False)


rewriter = MockModel("mock-small", reply=rewrite, first_token_seconds=0.04)
writer = MockModel("mock-large")
index = bm25s.BM25()
index.index(tokenize(ARTICLES), show_progress=False)


# --- Delivering the traces, and looking at what has arrived -----------------------------------------------------------


def main() -> None:
    """Have the conversations, deliver their traces, and show them. Exit code 1: some did not arrive."""
    client = Lodestream(
        endpoint=ENDPOINT,
        secret_key=SECRET_KEY,
        environment="demo",
        release="1.2",
        service_name="rag-support",
    )
    if not (check := client.check_connection()).ok:
        sys.exit(check.message)
    prepare_prompt()
    made = []
    for number, chat in enumerate(CONVERSATIONS):
        if number == len(CONVERSATIONS) // 2:
            swap_prompt()
        made += [support_question(question, chat) for question in chat.questions]
        client.create_score(
            name="stars", value=chat.stars, trace_id=made[-1], source="ANNOTATION", author=chat.customer
        )

    receipt = client.shutdown()
    print(
        f"\n{len(made)} questions were answered; {receipt.delivered} observations and scores were delivered.",
        flush=True,
    )
    if not receipt.complete:
        sys.exit(f"{receipt.pending} are pending, {receipt.dropped} were dropped: {receipt.problem}")
    show(made, receipt.position)


def show(made: Sequence[str], position: str) -> None:
    """All traces in a list, once it has all that was delivered; then one of two turns, and the one with the error."""
    run("traces", "list", "-n", str(len(made)), "--wait-for", position)
    run("traces", "get", made[1])
    run("traces", "get", made[5])
    run("prompts", "history", PROMPT)
    run("prompts", "metrics", PROMPT, "--wait-for", position)
    print("\nMore to try:")
    for words_of_command in (
        ["traces", "get", made[5], "--content"],
        ["traces", "list", "--has-error"],
        ["traces", "list", "--score", "'stars<=2'"],
        ["scores", "stats", "--by", "prompt"],
        ["sessions", "get", CONVERSATIONS[0].session],
        ["prompts", "get", PROMPT],
        ["prompts", "rollback", PROMPT],
        ["traces", "tail"],
        ["status"],
    ):
        print(f"  $ {COMMAND} {' '.join(words_of_command)}")


def run(*words_of_command: str) -> None:
    """Run the command line on this terminal. It has to succeed."""
    if ask(*words_of_command) and "diff" not in words_of_command:  # which ends with 1 when there is a difference
        sys.exit(1)


def ask(*words_of_command: str) -> int:
    """Run the command line on this terminal, and give what it ends with."""
    print(f"\n$ {COMMAND} {' '.join(words_of_command)}", flush=True)
    return subprocess.run([COMMAND, *words_of_command], env=environment(), check=False).returncode  # noqa: S603


def environment() -> dict[str, str]:
    """What the command line needs."""
    return {**os.environ, "LODESTREAM_ENDPOINT": ENDPOINT, "LODESTREAM_SECRET_KEY": SECRET_KEY}


if __name__ == "__main__":
    main()
