"""The app of the scores projection: what reaches its handler, and its AsyncAPI document."""

from pathlib import Path

from faststream import AckPolicy
from faststream.kafka import TestKafkaBroker

from services.projections.scores.app import create_app
from services.projections.scores.subscriber import router, subscriber
from shared.event_log.broker import kafka_broker
from shared.event_log.topics import SCORES
from shared.read_model.projecting.asyncapi import document
from shared.runtime.settings import KafkaSettings
from tests.scores import score, score_event
from tests.wiring.test_projection_traces import Remembering


async def test_a_record_reaches_the_handler_as_an_event() -> None:
    sent, projector = score_event(score("s"), number=1), Remembering()
    broker = kafka_broker(KafkaSettings(), client_id="test")
    broker.include_router(router)
    broker.context.set_global("projector", projector)
    async with TestKafkaBroker(broker) as tested:
        await tested.publish(sent.SerializeToString(), SCORES)
    ((recorded,),) = projector.batches
    assert (recorded.topic, recorded.event) == (SCORES, sent)


def test_nothing_is_acknowledged_before_it_is_folded() -> None:
    assert subscriber.ack_policy is AckPolicy.NACK_ON_ERROR


def test_the_document_of_the_topics_is_up_to_date() -> None:
    """Written by `make asyncapi`."""
    written = Path(__file__).parents[2] / "docs" / "asyncapi-scores.json"
    assert written.read_text(encoding="utf-8") == document(create_app)
