"""Quotas let in what they can pay for later, and no more; ids and senders of events."""

import time
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from services.write.gateway.admission import Quotas
from services.write.gateway.records import new_event_id, numbered_event_id, producer_of
from shared.runtime.token_bucket import Bucket


def test_a_debt_is_paid_off_before_anything_more_is_taken() -> None:
    bucket = Bucket(rate=10, burst=20, now=0)
    assert bucket.wait(0) == 0
    bucket.take(50, 0)
    assert bucket.wait(0) == 3
    assert bucket.wait(2) == 1
    assert bucket.wait(3) == 0


def test_a_rest_does_not_save_up_more_than_a_burst() -> None:
    bucket = Bucket(rate=10, burst=20, now=0)
    bucket.wait(1000)
    bucket.take(21, 1000)
    assert bucket.wait(1000) == pytest.approx(0.1)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 100)), max_size=60))
def test_in_the_long_run_no_more_than_the_rate_gets_in(requests: list[tuple[float, float]]) -> None:
    bucket, now, taken, largest = Bucket(rate=10, burst=20, now=0), 0.0, 0.0, 0.0
    for pause, amount in requests:
        now += pause
        if not bucket.wait(now):
            bucket.take(amount, now)
            taken, largest = taken + amount, max(largest, amount)
    assert taken <= 20 + 10 * now + largest + 1e-6


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = Bucket(rate=10, burst=10, now=100)
    bucket.take(20, 100)
    assert bucket.wait(50) == 1


def test_projects_do_not_pay_for_each_other() -> None:
    quotas = Quotas(bytes_per_second=100, spans_per_second=10, burst_seconds=1, clock=lambda: 0.0)
    quotas.take("greedy", size=100, spans=60)
    assert quotas.wait("greedy") == 5
    assert quotas.wait("modest") == 0


def test_bytes_and_spans_are_charged_apart() -> None:
    quotas = Quotas(bytes_per_second=100, spans_per_second=10, burst_seconds=2, clock=lambda: 0.0)
    quotas.take("large", size=500)
    quotas.take("many", spans=30)
    quotas.take("both", size=300, spans=60)
    assert [quotas.wait(project) for project in ("large", "many", "both")] == [3, 1, 4]


def test_event_ids_are_uuids_of_version_7_and_follow_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [uuid.UUID(new_event_id()) for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert {(its.version, its.variant) for its in ids} == {(7, uuid.RFC_4122)}
    assert all(before <= its.int >> 80 <= after for its in ids)
    assert len(set(ids)) == 1000


def test_further_records_of_an_event_have_ids_of_their_own_always_the_same() -> None:
    event_id = new_event_id()
    ids = [numbered_event_id(event_id, n) for n in range(5)]
    assert ids[0] == event_id
    assert len(set(ids)) == 5
    assert ids == [numbered_event_id(event_id, n) for n in range(5)]


@pytest.mark.parametrize(
    ("metadata", "sdk", "told"),
    [
        ({"x-langfuse-sdk-name": "python", "x-langfuse-sdk-version": "5.0.4"}, {}, ("langfuse-python", "5.0.4")),
        ({"x-langfuse-sdk-name": "langfuse-js"}, {}, ("langfuse-js", "")),
        ({"lodestream-sdk-name": "lodestream-python", "lodestream-sdk-version": "1"}, {}, ("lodestream-python", "1")),
        ({"user-agent": "x/1"}, {"name": "opentelemetry", "language": "go", "version": "2"}, ("opentelemetry-go", "2")),
        ({"user-agent": "x/1"}, {"name": "mine"}, ("mine", "")),
        ({"user-agent": "OTel-OTLP-Exporter-Python/1.45.2 grpc/1"}, {}, ("OTel-OTLP-Exporter-Python", "1.45.2")),
        (
            {"x-langfuse-sdk-name": "x" * 500, "x-langfuse-sdk-version": "y" * 500},
            {},
            ("langfuse-" + "x" * 119, "y" * 128),
        ),
        ({}, {}, ("", "")),
    ],
)
def test_who_sends(metadata: dict[str, str], sdk: dict[str, str], told: tuple[str, str]) -> None:
    class Context:
        def invocation_metadata(self) -> Any:
            return tuple(metadata.items())

    attributes = [KeyValue(key=f"telemetry.sdk.{key}", value=AnyValue(string_value=sdk[key])) for key in sdk]
    resource = ResourceSpans(resource=Resource(attributes=attributes))
    context: Any = Context()
    producer = producer_of(context, ExportTraceServiceRequest(resource_spans=[resource]))
    assert (producer.name, producer.version) == told
