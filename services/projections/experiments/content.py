"""Digests of what datasets and items say: equal when they say the same, however it was written."""

import hashlib
from collections.abc import Iterable

from lodestream_proto.v1.experiment_event_pb2 import DatasetCreated, DatasetItemRecorded

from shared.rules.json_texts import canonical_json, read_json


def description_digest(its: DatasetCreated) -> bytes:
    """Of what a dataset is described as."""
    return digest((its.metadata_json, its.input_schema_json, its.expected_output_schema_json), its.description)


def item_digest(its: DatasetItemRecorded) -> bytes:
    """Of what an item is recorded as, whoever says it."""
    ids = its.source_trace_id.hex(), its.source_span_id.hex()
    return digest((its.input_json, its.expected_output_json, its.metadata_json), *ids, *sorted(set(its.splits)))


def digest(json_texts: Iterable[str], *texts: str) -> bytes:
    """Of JSON texts, in which order of names and spaces don't count, and of others. Empty is not null."""
    values = [canonical_json(read_json(text)) if text else "" for text in json_texts]
    return hashlib.sha256(canonical_json([values, texts]).encode()).digest()
