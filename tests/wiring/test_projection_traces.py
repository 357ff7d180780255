"""The traces projection's app: its route, what reaches the handler, its pages, its AsyncAPI document."""

from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

from faststream import AckPolicy
from faststream.kafka import TestKafkaBroker
from faststream.kafka.message import KafkaAckableMessage

from services.projections.traces.app import create_app
from services.projections.traces.subscriber import router, subscriber
from shared.event_log.broker import kafka_broker
from shared.event_log.codec import Recorded
from shared.event_log.topics import TRACES
from shared.read_model.projecting.asyncapi import document
from shared.runtime.settings import KafkaSettings
from tests.records import event, span


class Remembering:
    """Stands where the projector stands."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Recorded]] = []

    async def fold(self, records: Sequence[Recorded]) -> None:
        self.batches.append(records)


async def deliver(*values: bytes, headers: dict[str, str] | None = None) -> list[Sequence[Recorded]]:
    projector = Remembering()
    broker = kafka_broker(KafkaSettings(), client_id="test")
    broker.include_router(router)
    broker.context.set_global("projector", projector)
    async with TestKafkaBroker(broker) as tested:
        for value in values:
            await tested.publish(value, TRACES, headers=headers)
    return projector.batches


async def test_a_record_reaches_the_handler_as_an_event() -> None:
    sent = event([span(1, 1)])
    ((recorded,),) = await deliver(sent.SerializeToString())
    assert recorded.topic == TRACES
    assert recorded.event == sent


async def test_what_is_no_event_reaches_the_handler_as_bytes() -> None:
    for garbage in (b"\xff\xfe garbage", b"{}", b'{"json": true}'):
        ((recorded,),) = await deliver(garbage)
        assert recorded.event is None
        assert recorded.raw == garbage


async def test_headers_are_nobodys_business() -> None:
    ((recorded,),) = await deliver(b"x", headers={"content-type": "application/json"})
    assert recorded.raw == b"x"


def test_nothing_is_acknowledged_before_it_is_folded() -> None:
    """FastStream's default commits first. A policy set on the broker would not reach a router's subscribers."""
    assert router.subscribers == [subscriber]
    assert subscriber.ack_policy is AckPolicy.NACK_ON_ERROR
    assert subscriber._connection_args["enable_auto_commit"] is False
    assert subscriber.parser.msg_class is KafkaAckableMessage


def test_the_document_of_the_topics_is_up_to_date() -> None:
    """Written by `make asyncapi`."""
    written = Path(__file__).parents[2] / "docs" / "asyncapi-traces.json"
    assert written.read_text(encoding="utf-8") == document(create_app)


async def ask(path: str) -> tuple[int, bytes]:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "root_path": ""}
    await create_app()(scope, receive, send)
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
