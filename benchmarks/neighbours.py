"""What does a hostile neighbour cost a tenant? `python -m benchmarks.neighbours [attack …]`.

A victim, in a process and on a connection of its own, writes 20 spans a second and waits until they can be read, gets a
prompt, reads a trace, lists the newest and runs an experiment of one item; first alone, then beside an attacker with a
process, a connection, a project and a key of its own. Quotas and bounds are the defaults. The target: at most twice as
slow, at the 99th percentile.

A further attack is a function in ATTACKS, a further thing that the victim does is one in PROBES.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import secrets
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import grpc
import zstandard
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from lodestream_proto.v1 import datasets_pb2, experiments_pb2, prompts_pb2, query_pb2
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    EXPERIMENT_OUTCOME_COMPLETED,
    DatasetCreated,
    DatasetItemRecorded,
    ExperimentFinished,
    ExperimentItemFinished,
    ExperimentRequested,
    ItemEvaluation,
)
from lodestream_proto.v1.ingest_pb2 import RecordRequest
from lodestream_proto.v1.prompt_event_pb2 import PromptVersionCreated
from lodestream_proto.v1.span_event_pb2 import COMPRESSION_ZSTD, SpansRecorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from benchmarks.load import EXPORT
from benchmarks.page import Table
from benchmarks.processes import memory
from benchmarks.stack import Stack, fresh_stack
from shared.auth.keys import create_key, create_project
from shared.runtime.settings import GatewaySettings

RECORD = "/lodestream_proto.v1.IngestService/Record"
GET_TRACE = "/lodestream_proto.v1.QueryService/GetTrace"
GET_OVERVIEW = "/lodestream_proto.v1.QueryService/GetTraceOverview"
LIST_TRACES = "/lodestream_proto.v1.QueryService/ListTraces"
TAIL_TRACES = "/lodestream_proto.v1.QueryService/TailTraces"
GET_PROMPT = "/lodestream_proto.v1.PromptService/GetPrompt"
CREATE_PROMPT = "/lodestream_proto.v1.PromptService/CreatePrompt"
CREATE_DATASET = "/lodestream_proto.v1.DatasetService/CreateDataset"
RECORD_ITEMS = "/lodestream_proto.v1.DatasetService/RecordItems"
START_EXPERIMENT = "/lodestream_proto.v1.ExperimentService/StartExperiment"
COMPARE_EXPERIMENTS = "/lodestream_proto.v1.ExperimentService/CompareExperiments"
WATCH_EXPERIMENT = "/lodestream_proto.v1.ExperimentService/WatchExperiment"
GET_EXPERIMENT = "/lodestream_proto.v1.ExperimentService/GetExperiment"
TARGET = 2.0
_SPANS_PER_WRITE, _WRITES_PER_SECOND, _READS_PER_SECOND, _RUNS_PER_SECOND = 5, 4, 20, 1
_LOOK_SECONDS = 0.05
_SETTLING_SECONDS, _WARM_UP_SECONDS = 2.0, 3.0
_START_SECONDS = 60
_LOWEST_PRIORITY = 19
_UNBOUNDED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
COLUMNS = (
    "Attack", "What the victim does", "Alone p50/p99 ms", "Beside p50/p99 ms", "p99 ratio", "Calls", "Failed",
    "Answers to the attacker",
)  # fmt: skip
NOTES = (
    f"Target: a ratio of at most {TARGET:g}. The attacker and the victim run on the same cores as all servers, and what"
    " they take is in the figures. The attacker, which elsewhere has a machine of its own, has the lowest priority."
)


@dataclass(slots=True)
class Client:
    """A tenant's connection, and how its calls went."""

    channel: grpc.aio.Channel
    secret_key: str
    answers: Counter[str] = field(default_factory=Counter)
    """Calls by their status, and by whether the server said when to come back."""

    async def call(self, method: str, request: bytes, *, timeout: float = 30) -> tuple[bytes, Mapping[str, Any]]:
        """The answer's bytes and trailing metadata.

        Raises AioRpcError.
        """
        stub: Any = self.channel.unary_unary(method)
        under_way = stub(request, metadata=(("authorization", f"Bearer {self.secret_key}"),), timeout=timeout)
        try:
            answer: bytes = await under_way
        except grpc.aio.AioRpcError as error:
            self.answers[f"{error.code().name}{' + RetryInfo' if _retry_info(error) else ''}"] += 1
            raise
        self.answers["OK"] += 1
        return answer, dict(await under_way.trailing_metadata() or ())

    async def try_call(self, method: str, request: bytes) -> bool:
        """Whether the call was answered."""
        try:
            await self.call(method, request)
        except grpc.aio.AioRpcError:
            return False
        return True

    async def read_stream(self, method: str, request: bytes) -> None:
        """Read a stream to its end, however it ends."""
        call: Any = self.channel.unary_stream(method)
        try:
            async for _ in call(request, metadata=(("authorization", f"Bearer {self.secret_key}"),)):
                self.answers["a message of a stream"] += 1
        except grpc.aio.AioRpcError as error:
            self.answers[error.code().name] += 1
        else:
            self.answers["a whole stream"] += 1

    async def at_once(self, calls: int, attack: Callable[["Client"], Awaitable[object]]) -> None:
        """So many of an attack's calls under way, for ever."""

        async def again_and_again() -> None:
            while True:
                await attack(self)

        async with asyncio.TaskGroup() as group:
            for _ in range(calls):
                group.create_task(again_and_again())


Attack = Callable[[Client], Awaitable[object]]
Probe = Callable[[Client, Mapping[str, str]], Awaitable[object]]


# Attacks: each goes on until its process is ended.


def span(
    trace: bytes, attributes: Mapping[str, str] | None = None, *, parent: bytes = b"", at_ns: int | None = None
) -> Span:
    """A span with an id of its own that took a millisecond."""
    start = time.time_ns() if at_ns is None else at_ns
    return Span(
        trace_id=trace,
        span_id=secrets.token_bytes(8),
        parent_span_id=parent,
        name="step",
        start_time_unix_nano=start,
        end_time_unix_nano=start + 1_000_000,
        attributes=[KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in (attributes or {}).items()],
    )


def request_of(spans: Sequence[Span]) -> bytes:
    """An OTLP request."""
    scope_spans = [ScopeSpans(spans=spans)]
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=scope_spans)]).SerializeToString()


def record_of(blocks: Sequence[bytes], *, spans: int) -> bytes:
    """A native request of events, each with a compressed OTLP request."""
    return RecordRequest(
        events=[
            Event(spans_recorded=SpansRecorded(otlp_request=block, compression=COMPRESSION_ZSTD, span_count=spans))
            for block in blocks
        ]
    ).SerializeToString()


async def bytes_bomb(attacker: Client) -> None:
    """150 events that are 90 kB together and open to 2.5 GB; then as many as are taken."""
    large = span(secrets.token_bytes(16), {"input.value": "x" * (15 * 1024 * 1024)})
    block = zstandard.compress(request_of([large]))
    await attacker.try_call(RECORD, record_of([block] * 150, spans=1))
    await attacker.at_once(4, lambda client: client.try_call(RECORD, record_of([block], spans=1)))


async def spans_bomb(attacker: Client) -> None:
    """60 events that are 33 kB together and hold 3,000,000 spans; then as many as are taken."""
    one = span(bytes(15) + b"\1").SerializeToString()
    field_of_one = bytes([0x12, len(one)]) + one
    scope = b"\x12" + _varint(50_000 * len(field_of_one)) + field_of_one * 50_000
    block = zstandard.compress(b"\x0a" + _varint(len(scope)) + scope)
    await attacker.try_call(RECORD, record_of([block] * 60, spans=50_000))
    await attacker.at_once(4, lambda client: client.try_call(RECORD, record_of([block], spans=50_000)))


async def empty_messages(attacker: Client) -> None:
    """Two bytes each on the wire, a hundred in memory: events, spans, attributes."""
    attributes = span(secrets.token_bytes(16)).SerializeToString() + b"\x4a\x00" * 4_000_000
    inner = b"\x12" + _varint(len(attributes)) + attributes
    scope = b"\x12" + _varint(len(inner)) + inner
    requests = {
        EXPORT: b"\x0a" + _varint(len(scope)) + scope,
        RECORD: b"\x0a\x00" * 4_000_000,
    }
    await attacker.at_once(2, lambda client: _each(client, requests))


async def huge_trace(attacker: Client) -> None:
    """One trace without end: all its spans apart in time, so that no two intervals become one."""
    trace, numbers, began = secrets.token_bytes(16), iter(range(1, 10**9)), time.time_ns() - 86_000 * 10**9

    async def more(client: Client) -> None:
        spans = [span(trace, parent=b"\1" * 8, at_ns=began + next(numbers) * 2_000_000) for _ in range(500)]
        await client.try_call(EXPORT, request_of(spans))

    await attacker.at_once(4, more)


async def huge_session(attacker: Client) -> None:
    """One session of more and more traces, each of which changes its user and is sent again."""
    session = secrets.token_hex(8)

    async def more(client: Client) -> None:
        traces = [secrets.token_bytes(16) for _ in range(100)]
        for user in ("zoe", "ada"):
            spans = [span(trace, {"session.id": session, "user.id": user}) for trace in traces]
            await client.try_call(EXPORT, request_of(spans))

    await attacker.at_once(4, more)


async def poison(attacker: Client) -> None:
    """Spans that were dead letters once: texts that end in the middle of a character, absurd amounts."""
    odd = {
        "gen_ai.input.messages": '[{"role":"user","content":"hi \\ud83d"}]',
        "langfuse.observation.usage_details": '{"\\ud800": 1, "input": 9000000000000000000}',
        "langfuse.trace.tags": '["\\ud800"]',
    }

    async def more(client: Client) -> None:
        await client.try_call(EXPORT, request_of([span(secrets.token_bytes(16), odd) for _ in range(101)]))

    await attacker.at_once(4, more)


async def make_dataset(client: Client, items: int) -> None:
    """The dataset "questions" with so many items."""
    created = datasets_pb2.CreateDatasetRequest(dataset=DatasetCreated(name="questions"))
    await client.call(CREATE_DATASET, created.SerializeToString())
    recorded = [DatasetItemRecorded(input_json=f'{{"question": "why {n}?"}}') for n in range(items)]
    request = datasets_pb2.RecordItemsRequest(dataset_name="questions", items=recorded)
    await client.call(RECORD_ITEMS, request.SerializeToString())


def run_of(name: str, *, seconds: float, max_concurrency: int = 1) -> bytes:
    """A run of the prompt "support" over the dataset, whose model takes so long for each item."""
    task = {
        "kind": "prompt", "prompt": {"name": "support"}, "provider": "mock", "model": "mock-large",
        "settings": {"latency_seconds": seconds},
    }  # fmt: skip
    run = ExperimentRequested(name=name, task_json=json.dumps(task), max_concurrency=max_concurrency)
    selector = datasets_pb2.DatasetSelector(name="questions")
    return experiments_pb2.StartExperimentRequest(experiment=run, dataset=selector).SerializeToString()


async def flood(attacker: Client) -> None:
    """Ordinary requests of 100 spans, sixteen at once, as fast as they are answered."""

    async def more(client: Client) -> None:
        trace = secrets.token_bytes(16)
        await client.try_call(EXPORT, request_of([span(trace, {"input.value": "word " * 100}) for _ in range(100)]))

    await attacker.at_once(16, more)


async def flood_of_small_calls(attacker: Client) -> None:
    """Requests of one span, a hundred at once: what costs is the call."""
    await attacker.at_once(100, lambda client: client.try_call(EXPORT, request_of([span(secrets.token_bytes(16))])))


async def slow_items(attacker: Client) -> None:
    """Twenty runs of 500 items each, whose model takes a minute to answer, all at once."""
    await make_dataset(attacker, 500)
    for number in range(20):
        await attacker.try_call(START_EXPERIMENT, run_of(f"slow-{number}", seconds=60, max_concurrency=1_000))
    await asyncio.Event().wait()


async def large_reads(attacker: Client) -> None:
    """A trace of 20,000 spans with 40 MB of texts, read whole with content, and its overview, sixteen at once."""
    trace = secrets.token_bytes(16)
    for number in range(40):
        spans = [span(trace, {"input.value": f"{number} " + "x" * 2_000}) for _ in range(500)]
        await attacker.try_call(EXPORT, request_of(spans))
    requests = {
        GET_TRACE: query_pb2.GetTraceRequest(trace_id=trace.hex(), with_content=True).SerializeToString(),
        GET_OVERVIEW: query_pb2.GetTraceOverviewRequest(trace_id=trace.hex(), max_spans=2_000).SerializeToString(),
    }
    await attacker.at_once(16, lambda client: _each(client, requests))


async def wide_lists(attacker: Client) -> None:
    """20,000 traces, listed a thousand at a time by what no index has, sixteen at once."""
    for _ in range(40):
        spans = [span(secrets.token_bytes(16), {"user.id": secrets.token_hex(2)}) for _ in range(500)]
        await attacker.try_call(EXPORT, request_of(spans))
    wanted = query_pb2.TraceFilter(name_contains="e", max_latency_us=10**12, max_tokens=10**12)
    requests = [
        query_pb2.ListTracesRequest(filter=wanted, sort=sort, page_size=1_000).SerializeToString()
        for sort in (query_pb2.TRACE_SORT_LATENCY, query_pb2.TRACE_SORT_COST, query_pb2.TRACE_SORT_NAME)
    ]

    async def all_sorts(client: Client) -> None:
        for request in requests:
            await client.try_call(LIST_TRACES, request)

    await attacker.at_once(16, all_sorts)


async def many_tails(attacker: Client) -> None:
    """90 tails on one connection, each of which is begun again as soon as it ends."""
    request = query_pb2.TailTracesRequest().SerializeToString()
    await attacker.at_once(90, lambda client: client.read_stream(TAIL_TRACES, request))


async def record_run(attacker: Client, name: str, items: int, output: str) -> str:
    """The id of a run over data in no dataset that has ended, with five evaluations of each item."""
    run = ExperimentRequested(name=name, task_json='{"kind": "sdk"}')
    answer, _ = await attacker.call(
        START_EXPERIMENT, experiments_pb2.StartExperimentRequest(experiment=run).SerializeToString()
    )
    run_id = experiments_pb2.StartExperimentResponse.FromString(answer).run.request.run_id
    results = []
    for number in range(items):
        evaluations = [ItemEvaluation(name=f"metric {n}", numeric=secrets.randbelow(1_000)) for n in range(5)]
        result = ExperimentItemFinished(
            run_id=run_id, item_id=f"{number}", output_json=json.dumps(output), evaluations=evaluations
        )
        result.started_at.GetCurrentTime()
        result.ended_at.CopyFrom(result.started_at)
        results.append(Event(experiment_item_finished=result))
    for begin in range(0, items, 500):
        await attacker.call(RECORD, RecordRequest(events=results[begin : begin + 500]).SerializeToString())
    ended = Event(experiment_finished=ExperimentFinished(run_id=run_id, outcome=EXPERIMENT_OUTCOME_COMPLETED))
    await attacker.call(RECORD, RecordRequest(events=[ended]).SerializeToString())
    return run_id


async def comparisons(attacker: Client) -> None:
    """Two runs of 5,000 items with five evaluations each, compared sixteen at once."""
    ids = [await record_run(attacker, f"run {n}", 5_000, "yes") for n in range(2)]
    request = experiments_pb2.CompareExperimentsRequest(baseline_run_id=ids[0], run_ids=ids[1:]).SerializeToString()
    await attacker.at_once(16, lambda client: client.try_call(COMPARE_EXPERIMENTS, request))


async def many_watches(attacker: Client) -> None:
    """90 streams of a run with 2,000 results of 10 kB, each of which is begun again as soon as all were read."""
    run_id = await record_run(attacker, "watched", 2_000, "x" * 10_000)
    request = experiments_pb2.WatchExperimentRequest(run_id=run_id, with_items=True).SerializeToString()
    await attacker.at_once(90, lambda client: client.read_stream(WATCH_EXPERIMENT, request))


ATTACKS: Mapping[str, Attack] = {
    attack.__name__: attack
    for attack in (
        bytes_bomb, spans_bomb, empty_messages, huge_trace, huge_session, poison, flood, flood_of_small_calls,
        slow_items, large_reads, wide_lists, many_tails, comparisons, many_watches,
    )
}  # fmt: skip


# What the victim does: each is measured by itself, and begins so many times a second.


async def write_until_readable(victim: Client, _: Mapping[str, str]) -> None:
    """Write five spans, and read them back."""
    trace = secrets.token_bytes(16)
    spans = [span(trace, {"input.value": "question"}) for _ in range(_SPANS_PER_WRITE)]
    trailing = (await victim.call(EXPORT, request_of(spans)))[1]
    wait_for = query_pb2.WaitFor(position=trailing["lodestream-position"], timeout_ms=25_000)
    request = query_pb2.GetTraceRequest(trace_id=trace.hex(), wait_for=wait_for)
    answer, _ = await victim.call(GET_TRACE, request.SerializeToString())
    found = query_pb2.GetTraceResponse.FromString(answer)
    assert len(found.spans) == _SPANS_PER_WRITE, f"{len(found.spans)} of {_SPANS_PER_WRITE} spans can be read"


async def get_prompt(victim: Client, known: Mapping[str, str]) -> None:
    """Get a prompt by its name."""
    selector = prompts_pb2.PromptSelector(name=known["prompt"])
    await victim.call(GET_PROMPT, prompts_pb2.GetPromptRequest(prompt=selector).SerializeToString())


async def get_trace(victim: Client, known: Mapping[str, str]) -> None:
    """Read a trace of five spans."""
    request = query_pb2.GetTraceRequest(trace_id=known["trace"], with_content=True)
    await victim.call(GET_TRACE, request.SerializeToString())


async def run_experiment(victim: Client, _: Mapping[str, str]) -> None:
    """Run a prompt over a dataset of one item, until the run has ended."""
    answer, _trailing = await victim.call(START_EXPERIMENT, run_of(f"run-{secrets.token_hex(6)}", seconds=0))
    run = experiments_pb2.StartExperimentResponse.FromString(answer).run
    request = experiments_pb2.GetExperimentRequest(run_id=run.request.run_id).SerializeToString()
    while run.state == experiments_pb2.EXPERIMENT_STATE_RUNNING:
        await asyncio.sleep(_LOOK_SECONDS)
        run = experiments_pb2.GetExperimentResponse.FromString((await victim.call(GET_EXPERIMENT, request))[0]).run
    assert run.state == experiments_pb2.EXPERIMENT_STATE_COMPLETED, run.reason


async def list_traces(victim: Client, _: Mapping[str, str]) -> None:
    """List the newest traces."""
    await victim.call(LIST_TRACES, query_pb2.ListTracesRequest(page_size=20).SerializeToString())


PROBES: Mapping[str, tuple[Probe, float]] = {
    "write, until readable": (write_until_readable, _WRITES_PER_SECOND),
    "GetPrompt": (get_prompt, _READS_PER_SECOND),
    "GetTrace": (get_trace, _READS_PER_SECOND),
    "an experiment of one item": (run_experiment, _RUNS_PER_SECOND),
    "ListTraces": (list_traces, _WRITES_PER_SECOND),
}


# Processes


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds of the calls that were answered, and how many were not."""

    seconds: Sequence[float]
    failed: int

    def quantile(self, percent: int) -> float:
        """Seconds; infinite when nothing was answered."""
        if len(self.seconds) < 2:
            return self.seconds[0] if self.seconds else float("inf")
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1]

    def __str__(self) -> str:
        return f"{1e3 * self.quantile(50):.1f}/{1e3 * self.quantile(99):.1f}"


async def _measure(address: str, secret_key: str, known: Mapping[str, str], seconds: float) -> dict[str, Latencies]:
    """Do everything that there is a probe for, at its rate and whether or not the ones before were answered."""
    found: dict[str, list[float]] = {name: [] for name in PROBES}
    failed: Counter[str] = Counter()

    async def once(name: str, probe: Probe, client: Client) -> None:
        began = time.perf_counter()
        try:
            await probe(client, known)
        except (grpc.aio.AioRpcError, AssertionError, TimeoutError):
            failed[name] += 1
        else:
            found[name].append(time.perf_counter() - began)

    async def again_and_again(name: str, probe: Probe, rate: float, client: Client, seconds: float) -> None:
        began, under_way = time.perf_counter(), set[asyncio.Task[None]]()
        for number in range(int(seconds * rate)):
            await asyncio.sleep(began + number / rate - time.perf_counter())
            under_way.add(asyncio.create_task(once(name, probe, client)))
        await asyncio.gather(*under_way)

    async with grpc.aio.insecure_channel(address) as channel:
        client = Client(channel, secret_key)
        for period in (_WARM_UP_SECONDS, seconds):
            for times in found.values():
                times.clear()
            failed.clear()
            await asyncio.gather(
                *(again_and_again(name, probe, rate, client, period) for name, (probe, rate) in PROBES.items())
            )
    return {name: Latencies(found[name], failed[name]) for name in PROBES}


def _victim(answer: Connection, *arguments: Any) -> None:
    answer.send(asyncio.run(_measure(*arguments)))


def _attacker(answer: Connection, address: str, secret_key: str, attack: str) -> None:
    os.nice(_LOWEST_PRIORITY)

    async def attacking() -> Counter[str]:
        async with grpc.aio.insecure_channel(address, options=_UNBOUNDED) as channel:
            client = Client(channel, secret_key)
            task = asyncio.ensure_future(ATTACKS[attack](client))
            while not answer.poll():
                if task.done():
                    task.result()
                await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return client.answers

    answer.send(asyncio.run(attacking()))


@asynccontextmanager
async def process(target: Callable[..., None], *arguments: Any) -> AsyncIterator[Connection]:
    """A process that runs `target`, at the other end of a pipe; killed at the end."""
    ours, theirs = multiprocessing.Pipe()
    its = multiprocessing.get_context("spawn").Process(target=target, args=(theirs, *arguments), daemon=True)
    its.start()
    theirs.close()
    try:
        yield ours
    finally:
        its.kill()
        await asyncio.to_thread(its.join)


async def received(answer: Connection, *, within: float) -> Any:
    """What the process sends.

    Raises TimeoutError, and EOFError when it ends without a word.
    """
    if not await asyncio.to_thread(answer.poll, within):
        raise TimeoutError(f"no answer within {within:.0f} s")
    return answer.recv()


# The comparison


@dataclass(frozen=True, slots=True)
class Tenant:
    """A project of the stack."""

    project_id: str
    address: str
    secret_key: str
    known: Mapping[str, str]
    """What it may read: a prompt's name, a trace's id."""


async def tenant(stack: Stack, name: str) -> Tenant:
    """A project with a key, a prompt and a trace."""
    project_id = f"{name}-{secrets.token_hex(3)}"
    async with stack.database() as connection:
        await create_project(connection, project_id, name)
        key = await create_key(connection, project_id)
    trace = secrets.token_bytes(16)
    async with grpc.aio.insecure_channel(stack.endpoint) as channel:
        client = Client(channel, key.secret_key)
        prompt = PromptVersionCreated(
            prompt_name="support", text="Answer {{question}} politely.", labels=["production"]
        )
        await client.call(CREATE_PROMPT, prompts_pb2.CreatePromptRequest(prompt=prompt).SerializeToString())
        await client.call(EXPORT, request_of([span(trace, {"input.value": "why?"}) for _ in range(5)]))
        if name == "victim":
            await make_dataset(client, 1)
    return Tenant(project_id, stack.endpoint, key.secret_key, {"prompt": "support", "trace": trace.hex()})


async def beside(stack: Stack, attack: str, seconds: float) -> list[list[str]]:
    """The rows of one attack: everything that the victim does, alone and beside it."""
    victim, attacker = await tenant(stack, "victim"), await tenant(stack, "attacker")
    most = seconds + _START_SECONDS

    async def measured() -> dict[str, Latencies]:
        async with process(_victim, victim.address, victim.secret_key, victim.known, seconds) as answer:
            found: dict[str, Latencies] = await received(answer, within=most)
            return found

    alone = await measured()
    async with process(_attacker, attacker.address, attacker.secret_key, attack) as attacking:
        await asyncio.sleep(_SETTLING_SECONDS)
        began, before = time.monotonic(), await _readable(stack, attacker)
        found = await measured()
        folded = (await _readable(stack, attacker) - before) / (time.monotonic() - began)
        attacking.send("stop")
        received_answers: Counter[str] = await received(attacking, within=_START_SECONDS)
    rows: list[list[str]] = []
    for name, its in found.items():
        ratio = its.quantile(99) / alone[name].quantile(99)
        answers = (
            ", ".join(f"{status} {count:,}" for status, count in received_answers.most_common()) if not rows else ""
        )
        calls = f"{len(its.seconds) + its.failed}"
        rows.append([attack, name, str(alone[name]), str(its), f"{ratio:.1f}", calls, f"{its.failed}", answers])
    rows.append([attack, "the attacker's spans", "", f"{folded:,.0f} a second become readable", "", "", "", ""])
    return rows


async def _readable(stack: Stack, tenant: Tenant) -> int:
    """How many spans of a tenant can be read."""
    async with stack.database() as connection:
        query = "SELECT coalesce(sum(span_count), 0) FROM traces.traces WHERE project_id = $1"
        return int(await connection.fetchval(query, tenant.project_id))


async def table(attacks: Sequence[str], seconds: float) -> Table:
    """All these attacks, each on a stack of its own."""
    rows: list[list[str]] = []
    for attack in attacks:
        settings = default_quotas()
        async with fresh_stack(**settings) as stack:
            rows += await beside(stack, attack, seconds)
            megabytes = ", ".join(f"{role} {size // 1_000_000} MB" for role, size in memory(stack.pids).items())
            rows.append([attack, "memory afterwards", "", megabytes, "", "", "", ""])
    return Table(f"A victim beside an attacker, {seconds:.0f} s each", COLUMNS, rows, NOTES)


def default_quotas() -> dict[str, Any]:
    """The gateway's own, which other benchmarks take away."""
    names = ("quota_bytes_per_second", "quota_spans_per_second")
    return {f"LODESTREAM_GATEWAY_{name.upper()}": str(GatewaySettings.model_fields[name].default) for name in names}


async def _each(client: Client, requests: Mapping[str, bytes]) -> None:
    for method, request in requests.items():
        await client.try_call(method, request)


def _retry_info(error: grpc.aio.AioRpcError) -> bool:
    trailing = dict(error.trailing_metadata() or ())
    status = trailing.get("grpc-status-details-bin")
    return isinstance(status, bytes) and any(
        each.Is(RetryInfo.DESCRIPTOR) for each in Status.FromString(status).details
    )


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbours", description=__doc__)
    parser.add_argument("attacks", nargs="*", metavar="attack", help=f"of {', '.join(ATTACKS)} [all]")
    parser.add_argument("--seconds", type=float, default=10, help="alone, and again beside the attack [%(default)s]")
    options = parser.parse_args()
    if unknown := set(options.attacks) - set(ATTACKS):
        parser.error(f"no attack called {', '.join(sorted(unknown))}: there are {', '.join(ATTACKS)}")
    print(asyncio.run(table(options.attacks or list(ATTACKS), options.seconds)))


if __name__ == "__main__":
    main()
