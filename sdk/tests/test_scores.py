"""Scores: judged in the running code, sent like spans, refused one by one."""

import datetime as dt
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream import Lodestream, get_client, observe, propagate_attributes
from lodestream._scores import Target, score_of
from lodestream.testing import captured
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.ingest_pb2 import EVENT_OUTCOME_REFUSED, EventResult
from lodestream_proto.v1.score_event_pb2 import SCORE_SOURCE_API, SCORE_SOURCE_EVALUATOR
from opentelemetry import trace

from sdk.tests.collector import Collector, accepted, refused
from sdk.tests.polling import until
from sdk.tests.programs import Programs

TRACE, SPAN = "0" * 31 + "7", "0" * 15 + "9"


@pytest.fixture
def client(collector: Collector, tmp_path: Path) -> Iterator[Lodestream]:
    made = Lodestream(endpoint=collector.address, secret_key="sk", spool_dir=tmp_path)
    yield made
    made.shutdown()


# --- What is told -----------------------------------------------------------------------------------------------------


def test_scores_of_the_running_code() -> None:
    @observe
    def answer() -> None:
        get_client().score_current_span(name="grounded", value=True)
        get_client().score_current_trace(name="helpful", value=0.5, comment="half")
        with get_client().start_as_current_observation(name="inner") as inner:
            inner.score(name="tone", value="kind")
            inner.score_trace(name="remark", value="could be shorter", data_type="TEXT")

    with captured() as told:
        answer()
    whole, inner = told.named("answer"), told.named("inner")
    assert [(s.name, s.value, s.trace_id, s.observation_id) for s in told.scores] == [
        ("grounded", True, whole.trace_id, whole.id),
        ("helpful", 0.5, whole.trace_id, ""),
        ("tone", "kind", whole.trace_id, inner.id),
        ("remark", "could be shorter", whole.trace_id, ""),
    ]
    kinds = [score.event.value.WhichOneof("kind") for score in told.scores]
    assert kinds == ["boolean", "numeric", "categorical", "text"]


def test_everything_that_can_be_told() -> None:
    with captured() as told:
        score_id = get_client().create_score(
            name="n", value=1, trace_id=TRACE, observation_id=SPAN, score_id="mine", data_type="BOOLEAN", comment="c",
            config_id="cfg", metadata={"a": 1}, timestamp=dt.datetime(2026, 3, 1, tzinfo=dt.UTC), environment="test",
            source="EVALUATOR", author="ada", evaluator_version="v1",
        )  # fmt: skip
    (score,) = (told.scores[0].event,)
    assert (score_id, score.score_id, score.target.trace_id.hex(), score.target.span_id.hex()) == (
        "mine", "mine", TRACE, SPAN,
    )  # fmt: skip
    assert (score.value.boolean, score.comment, score.config_id, score.metadata_json) == (True, "c", "cfg", '{"a":1}')
    assert (score.environment, score.source, score.author, score.evaluator_version) == (
        "test", SCORE_SOURCE_EVALUATOR, "ada", "v1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("target", "field"), [({"session_id": "s"}, "session_id"), ({"dataset_run_id": "r"}, "run_id")]
)
def test_sessions_and_runs(target: dict[str, str], field: str) -> None:
    with captured() as told:
        get_client().create_score(name="n", value=1.5, **target)  # type: ignore[arg-type]
    assert getattr(told.scores[0].event.target, field) == next(iter(target.values()))
    assert told.scores[0].event.source == SCORE_SOURCE_API


@given(
    st.text(min_size=1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.dictionaries(st.text(), st.text()),
)
def test_the_bytes_are_an_event(name: str, value: float, comment: str, metadata: dict[str, str]) -> None:
    score = score_of(Target(trace_id=TRACE), name, value, {"comment": comment, "metadata": metadata})
    event = Event.FromString(score.event)
    assert event.score_recorded.value.numeric == value
    assert event.score_recorded.name == name.encode("utf-8", "replace").decode()
    assert event.producer.name == "lodestream-python"
    assert event.event_id[14] == "7"
    assert event.occurred_at.seconds > 1_700_000_000


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"value": math.nan, "trace_id": TRACE}, "not a finite number"),
        ({"value": math.inf, "trace_id": TRACE}, "not a finite number"),
        ({"value": "", "trace_id": TRACE}, "is not a text"),
        ({"value": object(), "trace_id": TRACE}, "object"),
        ({"value": 2, "data_type": "BOOLEAN", "trace_id": TRACE}, "neither true nor false"),
        ({"value": 1, "data_type": "CATEGORICAL", "trace_id": TRACE}, "is not a text"),
        ({"value": 1, "data_type": "STARS", "trace_id": TRACE}, "none of NUMERIC"),
        ({"value": 1, "source": "HEARSAY", "trace_id": TRACE}, "none of API"),
        ({"value": 1, "stars": 5, "trace_id": TRACE}, "has no stars"),
        ({"value": 1}, "is of one of"),
        ({"value": 1, "trace_id": TRACE, "session_id": "s"}, "is of one of"),
        ({"value": 1, "session_id": "s", "observation_id": SPAN}, "needs the trace_id"),
        ({"value": 1, "trace_id": "7"}, "32 hex digits"),
        ({"value": 1, "trace_id": TRACE, "observation_id": "9"}, "16 hex digits"),
        ({"value": 1, "trace_id": TRACE, "timestamp": dt.datetime(1900, 1, 1, tzinfo=dt.UTC)}, "before 1970"),
    ],
)
def test_what_makes_no_sense_is_told_and_not_sent(
    given: dict[str, Any], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    with captured() as told, caplog.at_level(logging.WARNING, "lodestream"):
        assert get_client().create_score(name="n", **given) is None
    assert told.scores == []
    assert problem in caplog.text


def test_outside_of_any_trace_nothing_is_current(caplog: pytest.LogCaptureFixture) -> None:
    with captured() as told, caplog.at_level(logging.WARNING, "lodestream"):
        assert get_client().score_current_span(name="n", value=1) is None
    assert told.scores == []
    assert "there is no current observation" in caplog.text


def test_traces_that_are_not_kept_have_no_scores() -> None:
    with captured(sample_rate=0.0) as told:
        with get_client().start_as_current_observation(name="a") as whole:
            assert get_client().score_current_span(name="n", value=1) is None
            assert whole.score(name="n", value=1) is None
        assert get_client().create_score(name="n", value=1, trace_id=TRACE) is None
        assert get_client().create_score(name="n", value=1, session_id="s") is not None
    assert len(told.scores) == 1


def test_a_mask_masks_comments_and_metadata() -> None:
    with captured(mask=lambda data: "***") as told:
        get_client().create_score(name="n", value="v", session_id="s", comment="secret", metadata={"a": "secret"})
    assert (told.scores[0].event.comment, told.scores[0].event.metadata_json) == ("***", '{"metadata":"***"}')


def test_scores_have_an_environment() -> None:
    """Their own, that of the observation, what is propagated, the client's."""
    with captured(environment="clients") as told:
        client = get_client()
        client.create_score(name="client", value=1, session_id="s")
        with propagate_attributes(environment="propagated"):
            client.create_score(name="propagated", value=1, session_id="s")
            span = client.start_observation(name="a")
            with client.start_as_current_observation(name="b") as current:
                client.score_current_span(name="propagated", value=1)
                client.score_current_trace(name="propagated", value=1)
                client.create_score(name="own", value=1, session_id="s", environment="own")
        span.score(name="propagated", value=1)
        current.score_trace(name="propagated", value=1)
        with client.start_as_current_observation(name="c"):
            client.score_current_span(name="client", value=1)
    expected = {"client": "clients", "propagated": "propagated", "own": "own"}
    assert len(told.scores) == 8
    assert [score.event.environment for score in told.scores] == [expected[score.name] for score in told.scores]


def test_scores_on_spans_of_other_instrumentations() -> None:
    with captured() as told, trace.get_tracer("other").start_as_current_span("theirs") as span:
        get_client().score_current_span(name="n", value=1)
    assert told.scores[0].observation_id == f"{span.get_span_context().span_id:016x}"


# --- Their way --------------------------------------------------------------------------------------------------------


def test_scores_and_spans_are_delivered(collector: Collector, client: Lodestream) -> None:
    for number in range(300):
        span = client.start_observation(name=f"s{number}")
        span.score(name="n", value=number)
        span.end()
    receipt = client.flush()
    assert (receipt.delivered, receipt.pending, receipt.dropped) == (600, 0, 0), receipt
    assert "lodestream.scores:0:7" in receipt.position
    assert sorted(event.score_recorded.value.numeric for event in collector.events) == list(range(300))
    assert len({event.event_id for event in collector.events}) == 300
    assert collector.delivered.total() == 300


def test_a_refused_score_is_told_and_the_others_are_kept(
    collector: Collector, client: Lodestream, caplog: pytest.LogCaptureFixture
) -> None:
    def verdict(event: Event) -> EventResult:
        if event.score_recorded.value.numeric != 3:
            return accepted(event)
        return EventResult(
            event_id=event.event_id,
            outcome=EVENT_OUTCOME_REFUSED,
            field="score_recorded.value",
            reason="config c1: over 2",
        )

    collector.verdict = verdict
    with caplog.at_level(logging.WARNING, "lodestream"):
        for number in range(5):
            client.create_score(name="n", value=number, trace_id=TRACE)
        receipt = client.flush()
    assert (receipt.delivered, receipt.dropped) == (4, 1)
    assert "score_recorded.value: config c1: over 2" in caplog.text


def test_the_same_scores_again_after_a_failure(collector: Collector, client: Lodestream) -> None:
    collector.script += [refused(grpc.StatusCode.UNAVAILABLE, retry_after=0.05)]
    client.create_score(name="n", value=1, trace_id=TRACE)
    assert client.flush().complete
    assert len(collector.events) == 2
    assert len({event.event_id for event in collector.events}) == 1


def test_a_request_that_is_refused_as_a_whole_is_taken_apart(collector: Collector, client: Lodestream) -> None:
    collector.script += [refused(grpc.StatusCode.INVALID_ARGUMENT)]
    for number in range(4):
        client.create_score(name="n", value=number, trace_id=TRACE)
    until(lambda: client.receipt.durable)  # so that they are one batch
    assert client.flush().delivered == 4
    assert len(collector.events) > 4


def test_the_next_process_delivers_what_a_killed_one_left(programs: Programs, collector: Collector) -> None:
    killed = Programs(programs.spool, collector.address)
    program = killed.start(
        """
        for number in range(50):
            work("told")
            get_client().create_score(name="n", value=number, session_id="s")
        durable()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        LODESTREAM_FLUSH_INTERVAL="60",
    )
    program.communicate(timeout=60)
    killed.deliver_left()
    assert sorted(event.score_recorded.value.numeric for event in collector.events) == list(range(50))
    assert collector.kept["told"] == 50
