"""Records that no projection can read, put straight into the log: each must become one dead letter, whole."""

import argparse
import asyncio
import hashlib
import random
import signal
from contextlib import suppress

import zstandard
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded

from tests.torture.ledger import Ledger, Told

_TOPIC, _PARTITIONS = "lodestream.traces", 12


async def write(asked: argparse.Namespace, ledger: Ledger) -> None:
    """Append one now and then until told to stop, or until all are there."""
    rng, stop = random.Random(f"{asked.seed}/{asked.life}"), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    asked.tell_ready()
    for _ in range(asked.requests):
        raw = rng.choice(_MAKERS)(rng, asked.project)
        send = ledger.intend([Told("", "", "bytes:" + hashlib.sha256(raw).hexdigest())])
        try:
            async with asyncio.timeout(20):
                position = await _append(asked.endpoint, raw, rng.randrange(_PARTITIONS))
        except (KafkaError, TimeoutError) as error:
            ledger.learn(send, "unknown", code=type(error).__name__)
        else:
            ledger.learn(send, "acked", position=position)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 1 / asked.rate)
        if stop.is_set():
            return


async def _append(kafka: str, raw: bytes, partition: int) -> str:
    """The record's position. By a producer of its own: one that a fault broke would fail for ever."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, enable_idempotence=True)
    try:
        await producer.start()
        at = await producer.send_and_wait(_TOPIC, raw, partition=partition)
    finally:
        with suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(producer.stop(), 5)
    return f"{_TOPIC}:{at.partition}:{at.offset}"


def _garbage(rng: random.Random, _project: str) -> bytes:
    return b"\xff\xff" + rng.randbytes(40)


def _without_project(rng: random.Random, _project: str) -> bytes:
    return Event(event_id=rng.randbytes(8).hex()).SerializeToString()


def _damaged_block(rng: random.Random, project: str) -> bytes:
    block = zstandard.compress(rng.randbytes(200))[:-50]
    recorded = SpansRecorded(otlp_request=block, compression=COMPRESSION_ZSTD, span_count=1)
    return Event(event_id=rng.randbytes(8).hex(), project_id=project, spans_recorded=recorded).SerializeToString()


_MAKERS = (_garbage, _without_project, _damaged_block)
