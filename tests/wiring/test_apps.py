"""The applications that fold a topic: what reaches the handler, their pages, their AsyncAPI documents."""

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faststream import AckPolicy
from faststream.asgi import AsgiFastStream
from faststream.kafka import KafkaBroker, TestKafkaBroker
from faststream.kafka.message import KafkaAckableMessage
from lodestream_proto.v1.event_pb2 import Event

from services.projections.experiments import experiments
from services.projections.prompts import prompts
from services.projections.scores import scores
from services.projections.traces import projection as traces
from services.write.evaluator import app as evaluator
from shared.event_log.codec import LogRecord
from shared.event_log.topics import EXPERIMENTS, PROMPTS, SCORES, TRACES
from shared.projection.asyncapi import document
from tests.support import experiment_records, experiment_runs
from tests.support import prompts as prompt_events
from tests.support.records import event, span
from tests.support.scores import score, score_event


@dataclass(frozen=True)
class App:
    """One application, and an event of its topic."""

    create: Callable[..., AsgiFastStream]
    topic: str
    sent: Event


APPS = {
    "traces": App(traces.create_app, TRACES, event([span(1, 1)])),
    "scores": App(scores.create_app, SCORES, score_event(score("s"), number=1)),
    "prompts": App(prompts.create_app, PROMPTS, prompt_events.created()),
    "experiments": App(experiments.create_app, EXPERIMENTS, experiment_records.created()),
    "evaluator": App(evaluator.create_app, EXPERIMENTS, experiment_runs.requested("r", project="p")),
}
every_app = pytest.mark.parametrize("name", APPS)


class Remembering:
    """Stands where the projector stands."""

    def __init__(self) -> None:
        self.batches: list[Sequence[LogRecord]] = []

    async def fold(self, records: Sequence[LogRecord]) -> None:
        self.batches.append(records)


async def deliver(app: App, *values: bytes, headers: dict[str, str] | None = None) -> list[Sequence[LogRecord]]:
    projector, application = Remembering(), app.create()
    application.context.set_global("projector", projector)
    async with TestKafkaBroker(broker_of(application)) as tested:
        for value in values:
            await tested.publish(value, app.topic, headers=headers)
    return projector.batches


def broker_of(application: AsgiFastStream) -> KafkaBroker:
    assert isinstance(application.broker, KafkaBroker)
    return application.broker


@every_app
async def test_a_record_reaches_the_handler_as_an_event(name: str) -> None:
    ((recorded,),) = await deliver(APPS[name], APPS[name].sent.SerializeToString())
    assert (recorded.topic, recorded.event) == (APPS[name].topic, APPS[name].sent)


async def test_what_is_not_an_event_reaches_the_handler_as_bytes() -> None:
    for garbage in (b"\xff\xfe garbage", b"{}", b'{"json": true}'):
        ((recorded,),) = await deliver(APPS["traces"], garbage)
        assert recorded.event is None
        assert recorded.raw == garbage


async def test_headers_are_ignored() -> None:
    ((recorded,),) = await deliver(APPS["traces"], b"x", headers={"content-type": "application/json"})
    assert recorded.raw == b"x"


@every_app
def test_nothing_is_acknowledged_before_it_is_folded(name: str) -> None:
    """FastStream's default commits first. A policy set on the broker would not reach a router's subscribers."""
    (subscriber,) = broker_of(APPS[name].create()).subscribers
    found: Any = subscriber
    assert found.ack_policy is AckPolicy.NACK_ON_ERROR
    assert found._connection_args["enable_auto_commit"] is False
    assert found.parser.msg_class is KafkaAckableMessage


@every_app
def test_the_document_of_the_topic_is_up_to_date(name: str) -> None:
    """Written by `make asyncapi`."""
    written = Path(__file__).parents[2] / "docs" / f"asyncapi-{name}.json"
    assert written.read_text(encoding="utf-8") == document(APPS[name].create)


async def ask(path: str) -> tuple[int, bytes]:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "root_path": ""}
    await traces.create_app()(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


async def test_the_pages_are_there() -> None:
    status, body = await ask("/health")
    assert (status, body) == (503, b'{"status":"unavailable","reason":"waits for Kafka and Postgres"}')
    status, body = await ask("/metrics")
    assert status == 200
    assert b"lodestream_projection_items" in body
    status, body = await ask("/docs")
    assert status == 200
    assert b"asyncapi" in body.lower()
