"""The prompts projection's app: its route, and its AsyncAPI document."""

from collections.abc import Sequence
from pathlib import Path

from faststream import AckPolicy
from faststream.kafka import TestKafkaBroker

from services.projections.prompts.app import create_app
from services.projections.prompts.subscriber import router, subscriber
from shared.event_log.broker import kafka_broker
from shared.event_log.codec import Recorded
from shared.event_log.topics import PROMPTS
from shared.read_model.projecting.asyncapi import document
from shared.runtime.settings import KafkaSettings
from tests.prompts import created


async def test_a_record_reaches_the_projector_as_an_event() -> None:
    batches: list[Sequence[Recorded]] = []

    class Remembering:
        async def fold(self, records: Sequence[Recorded]) -> None:
            batches.append(records)

    broker = kafka_broker(KafkaSettings(), client_id="test")
    broker.include_router(router)
    broker.context.set_global("projector", Remembering())
    sent = created()
    async with TestKafkaBroker(broker) as tested:
        await tested.publish(sent.SerializeToString(), PROMPTS)
    ((recorded,),) = batches
    assert (recorded.topic, recorded.event) == (PROMPTS, sent)


def test_nothing_is_acknowledged_before_it_is_folded() -> None:
    assert router.subscribers == [subscriber]
    assert subscriber.ack_policy is AckPolicy.NACK_ON_ERROR


def test_the_document_of_the_topic_is_up_to_date() -> None:
    """Written by `make asyncapi`."""
    written = Path(__file__).parents[2] / "docs" / "asyncapi-prompts.json"
    assert written.read_text(encoding="utf-8") == document(create_app)
