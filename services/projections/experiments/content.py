"""Digests of what datasets and items say: equal when they say the same, however it was written."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from lodestream_proto.v1.experiment_event_pb2 import DatasetCreated, DatasetItemRecorded


def description_digest(its: DatasetCreated) -> bytes:
    """Of what a dataset is described as."""
    return digest((its.metadata_json, its.input_schema_json, its.expected_output_schema_json), its.description)


def item_digest(its: DatasetItemRecorded) -> bytes:
    """Of what an item is recorded as, whoever says it."""
    ids = its.source_trace_id.hex(), its.source_span_id.hex()
    return digest((its.input_json, its.expected_output_json, its.metadata_json), *ids, *sorted(set(its.splits)))


def digest(json_texts: Iterable[str], *texts: str) -> bytes:
    """Of JSON texts, in which order of names and spaces don't count, and of others. Empty is not null."""
    values = [_canonical(json.loads(text)) if text else "" for text in json_texts]
    return hashlib.sha256(_canonical([values, texts]).encode()).digest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
