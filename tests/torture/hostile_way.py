"""A project that means harm: what it sends is its own loss, and nobody else's.

Every kind is from attacks that once halted partitions, took a process's memory or made it answer INTERNAL. Nothing is
claimed of what becomes of it: that the other projects lose nothing, that no partition halts, that no process dies or
grows, and that nothing is answered with INTERNAL, is what the checker looks at.
"""

import argparse
import asyncio
import json
import random
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import grpc
import zstandard
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1 import datasets_pb2 as datasets_pb
from lodestream_proto.v1 import experiments_pb2 as experiments_pb
from lodestream_proto.v1 import prompts_pb2 as prompts_pb
from lodestream_proto.v1 import query_pb2 as query_pb
from lodestream_proto.v1 import scores_pb2 as scores_pb
from lodestream_proto.v1.datasets_pb2_grpc import DatasetServiceStub
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import DatasetCreated, DatasetItemRecorded, ExperimentRequested
from lodestream_proto.v1.experiments_pb2_grpc import ExperimentServiceStub
from lodestream_proto.v1.ingest_pb2 import RecordRequest
from lodestream_proto.v1.ingest_pb2_grpc import IngestServiceStub
from lodestream_proto.v1.prompt_event_pb2 import PromptVersionCreated
from lodestream_proto.v1.prompts_pb2_grpc import PromptServiceStub
from lodestream_proto.v1.query_pb2_grpc import QueryServiceStub
from lodestream_proto.v1.score_event_pb2 import ScoreRecorded, ScoreTarget, ScoreValue
from lodestream_proto.v1.scores_pb2_grpc import ScoreServiceStub
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from tests.torture.contract import EXPERIMENTS, PROMPTS, SCORES
from tests.torture.driver import random_uuid
from tests.torture.ledger import Ledger
from tests.torture.ways import OPTIONS, Answer, ask

_TRACES = "lodestream.traces"
_TOPICS = (_TRACES, SCORES, PROMPTS, EXPERIMENTS)
_YEAR_9892, _NOON = 250_000_000_000, 1_780_000_000
_MIB = 1024 * 1024
_TOO_MUCH_IN_A_ROW = 101  # spans, one after the other, that once halted a partition
GUESSES = 150
"""Unknown keys in a row. The throttle takes LODESTREAM_KEYS_UNKNOWN_BURST (50) at once, and 5 a second from then on."""
_GIANT = b"giant trace 0001"
_SESSION = ScoreTarget(session_id="session")
_POISON: tuple[Mapping[str, str | int], ...] = (
    {"gen_ai.input.messages": '[{"role":"user","content":"hi \\ud83d"}]'},
    {"langfuse.trace.tags": '["\\ud800"]'},
    {"langfuse.observation.usage_details": '{"\\ud800": 1}'},
    {"langfuse.observation.usage_details": '{"input": 9000000000000000000}', "gen_ai.request.model": "gpt-4o"},
    {"langfuse.observation.usage_details": '{"a\\u0000b": 1}'},
    {"gen_ai.input.messages": json.dumps([{"role": "user", "content": "x" * 900}])[:-2] + '\\ud83d"}]'},
)


class HostileProject:
    """One request after the other, of a kind that is drawn."""

    def __init__(self, options: argparse.Namespace, channel: grpc.aio.Channel, rng: random.Random) -> None:
        self.project, self._kafka, self._channel, self._random = options.project, options.kafka, channel, rng
        self._has_run = False

    async def attack(self, kind: str, secret: str) -> Answer:
        """One attack of this kind; its answer, if there is one."""
        return await _KINDS[kind](self, secret)

    async def poison_spans(self, secret: str) -> Answer:
        """Spans that gateways took and rows could not hold, more in a row than once halted a partition."""
        spans = []
        for _ in range(_TOO_MUCH_IN_A_ROW):
            span = self._span(self._random.randbytes(16))
            for key, value in self._random.choice(_POISON).items():
                text = AnyValue(string_value=value) if isinstance(value, str) else AnyValue(int_value=value)
                span.attributes.append(KeyValue(key=key, value=text))
            spans.append(span)
        return await self._export(spans, secret)

    async def giant_trace(self, secret: str) -> Answer:
        """Many spans of one trace and one session, each apart from the others in time."""
        spans = [self._span(_GIANT) for _ in range(1_000)]
        for n, span in enumerate(spans):
            span.start_time_unix_nano = (_NOON + self._random.randrange(80_000)) * 10**9 + 2_000 * n
            span.end_time_unix_nano = span.start_time_unix_nano + 1_000
            span.attributes.append(KeyValue(key="session.id", value=AnyValue(string_value="one for all")))
            span.attributes.append(
                KeyValue(key="user.id", value=AnyValue(string_value=f"user {self._random.randrange(99)}"))
            )
        return await self._export(spans, secret)

    async def bomb_within_limits(self, secret: str) -> Answer:
        """A few bytes that open to nearly as much as a request may have."""
        return await self._record([_block(12 * _MIB)], secret)

    async def bombs_beyond_limits(self, secret: str) -> Answer:
        """Many of them in one request, and one that is much too large alone."""
        return await self._record([_block(12 * _MIB)] * 60 + [_block(64 * _MIB)], secret)

    async def many_spans(self, secret: str) -> Answer:
        """Many spans, the same each time, in few bytes."""
        return await self._record([_many_spans(10_000)], secret)

    async def read_it_all(self, secret: str) -> Answer:
        """The giant trace with all that it says."""
        stub: Any = QueryServiceStub(self._channel)
        trace_id = self._random.choice((_GIANT, bytes(15) + b"\1")).hex()
        return await ask(stub.GetTrace, query_pb.GetTraceRequest(trace_id=trace_id, with_content=True), secret)

    async def crafted_tokens(self, secret: str) -> Answer:
        """Tokens of pages that no server gave."""
        token = self._random.choice(("\0", "AAAA", str(2**62), str(-1), "ey" * 200, "\ud7ff", "[[]]", "9" * 400))
        scores: Any = ScoreServiceStub(self._channel)
        prompts: Any = PromptServiceStub(self._channel)
        query: Any = QueryServiceStub(self._channel)
        method, request = self._random.choice((
            (scores.ListScores, scores_pb.ListScoresRequest(page_token=token)),
            (prompts.ListPrompts, prompts_pb.ListPromptsRequest(page_token=token)),
            (prompts.ListVersions, prompts_pb.ListVersionsRequest(name="any", page_token=token)),
            (prompts.LabelHistory, prompts_pb.LabelHistoryRequest(name="any", page_token=token)),
            (query.ListTraces, query_pb.ListTracesRequest(page_token=token)),
            (query.ListSessions, query_pb.ListSessionsRequest(page_token=token)),
        ))  # fmt: skip
        return await ask(method, request, secret)

    async def odd_texts(self, secret: str) -> Answer:
        """Half characters and NULs in scores, prompts and datasets."""
        text = self._random.choice(('{"a": "\\ud83d"}', '{"\\ud800": 1}', '{"a": "\\u0000"}', '{"a": 1e999}'))
        target = ScoreTarget(session_id="session\0" if self._random.random() < 0.5 else "session")
        score = ScoreRecorded(
            score_id=random_uuid(self._random), name="odd", value=ScoreValue(numeric=1e308), target=target,
            metadata_json=text, comment="a\0b",
        )  # fmt: skip
        created = PromptVersionCreated(prompt_name="odd", text="odd\0", config_json=text)
        described = DatasetCreated(name="odd", metadata_json=text)
        items = [DatasetItemRecorded(item_id="odd", input_json=text, expected_output_json='"\\ud800"')]
        datasets: Any = DatasetServiceStub(self._channel)
        prompts: Any = PromptServiceStub(self._channel)
        answers = [
            await self._record_event(Event(event_id=random_uuid(self._random), score_recorded=score), secret),
            await ask(prompts.CreatePrompt, prompts_pb.CreatePromptRequest(prompt=created), secret),
            await ask(datasets.CreateDataset, datasets_pb.CreateDatasetRequest(dataset=described), secret),
            await ask(
                datasets.RecordItems, datasets_pb.RecordItemsRequest(dataset_name="odd", items=items), secret
            ),
        ]  # fmt: skip
        return _worst(answers)

    async def unknown_keys(self, _secret: str) -> Answer:
        """Keys that nobody made, more at once than an address may try: the last ones are throttled."""
        stub: Any = ScoreServiceStub(self._channel)
        request = scores_pb.ListScoresRequest()
        guesses = [f"sk-ls-{self._random.randbytes(16).hex()}" for _ in range(GUESSES)]
        return _worst([await ask(stub.ListScores, request, guess) for guess in guesses])

    async def endless_schemas(self, secret: str) -> Answer:
        """A schema that takes 2 to the 60th looks at one number."""
        levels = {f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(60)}
        schema = json.dumps({"$ref": "#/$defs/l0", "$defs": {**levels, "l60": {"type": "number"}}})
        stub: Any = DatasetServiceStub(self._channel)
        described = DatasetCreated(name="endless", input_schema_json=schema)
        created = await ask(stub.CreateDataset, datasets_pb.CreateDatasetRequest(dataset=described), secret)
        items = [DatasetItemRecorded(item_id=f"item-{n}", input_json=str(n)) for n in range(20)]
        recorded = await ask(
            stub.RecordItems, datasets_pb.RecordItemsRequest(dataset_name="endless", items=items), secret
        )
        return _worst([created, recorded])

    async def huge_settings(self, secret: str) -> Answer:
        """A run whose answers the mock model would fill beyond any memory; once, since its items are tried again."""
        if self._has_run:
            return Answer("acked")
        datasets: Any = DatasetServiceStub(self._channel)
        prompts: Any = PromptServiceStub(self._channel)
        experiments: Any = ExperimentServiceStub(self._channel)
        properties = {f"property {n}": {"type": "string"} for n in range(5_000)}
        response_format = {"type": "json_schema", "json_schema": {"schema": {"properties": properties}}}
        task = {
            "kind": "prompt", "prompt": {"name": "huge", "version": 1}, "provider": "mock", "model": "mock-large",
            "settings": {"response_format": response_format, "latency_seconds": 0},
        }  # fmt: skip
        items = [DatasetItemRecorded(item_id=f"{n}", input_json=json.dumps({"q": "x" * 90_000})) for n in range(2)]
        run_id = "huge"
        asked = ExperimentRequested(run_id=run_id, name=run_id, task_json=json.dumps(task), repetitions=1)
        created = PromptVersionCreated(prompt_name="huge", text="{{q}}")
        answers = [
            await ask(prompts.CreatePrompt, prompts_pb.CreatePromptRequest(prompt=created), secret),
            await ask(
                datasets.CreateDataset,
                datasets_pb.CreateDatasetRequest(dataset=DatasetCreated(name="huge")), secret,
            ),
            await ask(
                datasets.RecordItems, datasets_pb.RecordItemsRequest(dataset_name="huge", items=items), secret
            ),
            await ask(
                experiments.StartExperiment,
                experiments_pb.StartExperimentRequest(
                    experiment=asked, dataset=datasets_pb.DatasetSelector(name="huge")
                ),
                secret,
            ),
        ]  # fmt: skip
        self._has_run = answers[-1].verdict == "acked"
        return _worst(answers)

    async def newer_events(self, _secret: str) -> Answer:
        """Straight into the log, in any topic: events of a kind that nobody knows yet, many in a row."""
        payload = Event(event_id=random_uuid(self._random), project_id=self.project).SerializeToString()
        newer = payload + b"\xfa\x06\x03abc"  # field 111
        return await self._append(self._random.choice(_TOPICS), [newer] * _TOO_MUCH_IN_A_ROW)

    async def clocks_in_the_year_9892(self, _secret: str) -> Answer:
        """Straight into the log: spans that a gateway of the far future received."""
        block = zstandard.compress(_request([self._span(self._random.randbytes(16))]).SerializeToString())
        received = Timestamp(seconds=_YEAR_9892)
        spans = SpansRecorded(otlp_request=block, compression=COMPRESSION_ZSTD, span_count=1)
        event = Event(
            event_id=random_uuid(self._random), project_id=self.project, received_at=received, occurred_at=received,
            spans_recorded=spans,
        )  # fmt: skip
        return await self._append(_TRACES, [event.SerializeToString()])

    async def odd_events(self, _secret: str) -> Answer:
        """Straight into the log: what no gateway lets in, more in a row than once halted a partition."""
        identity = random_uuid(self._random)
        nan = ScoreRecorded(score_id="odd", name="odd", value=ScoreValue(numeric=float("nan")), target=_SESSION)
        score = Event(event_id=identity, project_id=self.project, score_recorded=nan)
        torn = SpansRecorded(otlp_request=zstandard.compress(b"x" * 99)[:-9], compression=COMPRESSION_ZSTD)
        spans = Event(event_id=identity, project_id=self.project, spans_recorded=torn)
        await self._append(SCORES, [score.SerializeToString()] * _TOO_MUCH_IN_A_ROW)
        return await self._append(_TRACES, [spans.SerializeToString()] * _TOO_MUCH_IN_A_ROW)

    def _span(self, trace_id: bytes) -> Span:
        start = (_NOON + self._random.randrange(80_000)) * 10**9
        return Span(
            trace_id=trace_id, span_id=self._random.randbytes(8), name="hostile", start_time_unix_nano=start,
            end_time_unix_nano=start + 1_000,
        )  # fmt: skip

    async def _export(self, spans: list[Span], secret: str) -> Answer:
        stub: Any = TraceServiceStub(self._channel)  # type: ignore[no-untyped-call]
        return await ask(stub.Export, _request(spans), secret)

    async def _record(self, blocks: list[bytes], secret: str) -> Answer:
        events = [
            Event(
                event_id=random_uuid(self._random),
                spans_recorded=SpansRecorded(otlp_request=block, compression=COMPRESSION_ZSTD),
            )
            for block in blocks
        ]
        stub: Any = IngestServiceStub(self._channel)
        return await ask(stub.Record, RecordRequest(events=events), secret)

    async def _record_event(self, event: Event, secret: str) -> Answer:
        stub: Any = IngestServiceStub(self._channel)
        return await ask(stub.Record, RecordRequest(events=[event]), secret)

    async def _append(self, topic: str, values: list[bytes]) -> Answer:
        producer = AIOKafkaProducer(bootstrap_servers=self._kafka, enable_idempotence=True)
        partition = self._random.randrange(12)
        try:
            async with asyncio.timeout(20):
                await producer.start()
                for sent in [await producer.send(topic, value, partition=partition) for value in values]:
                    await sent
        except (KafkaError, TimeoutError) as error:
            return Answer("unknown", code=type(error).__name__)
        finally:
            with suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(producer.stop(), 5)
        return Answer("acked")


_Attack = Callable[[HostileProject, str], Awaitable[Answer]]
_KINDS: Mapping[str, _Attack] = {
    attack.__name__: attack
    for attack in (
        HostileProject.poison_spans, HostileProject.giant_trace, HostileProject.bomb_within_limits,
        HostileProject.bombs_beyond_limits, HostileProject.many_spans, HostileProject.read_it_all,
        HostileProject.crafted_tokens, HostileProject.odd_texts, HostileProject.unknown_keys,
        HostileProject.endless_schemas, HostileProject.huge_settings, HostileProject.newer_events,
        HostileProject.clocks_in_the_year_9892, HostileProject.odd_events,
    )
}  # fmt: skip
KINDS = tuple(_KINDS)
"""Every kind of attack."""


async def write(options: argparse.Namespace, ledger: Ledger, secret: str) -> None:
    """Attack now and then, in turns of every kind, until told to stop or until all are sent."""
    rng, stop = random.Random(f"{options.seed}/{options.life}"), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    kinds = options.kinds.split(",") if options.kinds else list(KINDS)
    async with grpc.aio.insecure_channel(options.endpoint, options=OPTIONS) as channel:
        hostile = HostileProject(options, channel, rng)
        options.tell_ready()
        for number in range(options.requests):
            if not number % len(kinds):
                rng.shuffle(kinds)
            kind = kinds[number % len(kinds)]
            sent = ledger.intend([])
            answer = await hostile.attack(kind, secret)
            ledger.learn(sent, answer.verdict, code=f"{kind}: {answer.code}")
            if objection := answer.objection(known_key=False):
                ledger.object(objection, f"{options.project}: {kind}")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1 / options.rate)
            if stop.is_set():
                return


def _request(spans: list[Span]) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])


@cache
def _block(size: int) -> bytes:
    """A request of one span that has an attribute of so many bytes, compressed."""
    span = Span(
        trace_id=bytes(15) + b"\1", span_id=bytes(7) + b"\1", name="bomb", start_time_unix_nano=_NOON * 10**9,
        end_time_unix_nano=_NOON * 10**9 + 1, attributes=[KeyValue(key="x", value=AnyValue(string_value="x" * size))],
    )  # fmt: skip
    return zstandard.compress(_request([span]).SerializeToString())


@cache
def _many_spans(count: int) -> bytes:
    """A request of so many spans, compressed."""
    spans = [
        Span(trace_id=b"many spans 00001", span_id=n.to_bytes(8, "big"), start_time_unix_nano=_NOON * 10**9, name="n")
        for n in range(1, count + 1)
    ]
    return zstandard.compress(_request(spans).SerializeToString())


def _worst(answers: list[Answer]) -> Answer:
    return next((answer for answer in answers if answer.objection(known_key=False)), answers[-1])
