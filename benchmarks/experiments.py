"""What does an experiment cost beside its model? `python -m benchmarks.experiments`, with a model that answers at once.

One, two and four workers share a run; then one of two is killed in the middle of a run, and the other goes on with it.
"""

import argparse
import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import grpc
import orjson
from lodestream_proto.v1 import datasets_pb2, experiments_pb2, prompts_pb2
from lodestream_proto.v1.datasets_pb2_grpc import DatasetServiceStub
from lodestream_proto.v1.experiment_event_pb2 import DatasetCreated, DatasetItemRecorded, ExperimentRequested
from lodestream_proto.v1.experiments_pb2_grpc import ExperimentServiceStub
from lodestream_proto.v1.prompt_event_pb2 import PromptVersionCreated
from lodestream_proto.v1.prompts_pb2_grpc import PromptServiceStub

from benchmarks.page import Table
from benchmarks.processes import used
from benchmarks.stack import Stack, fresh_stack

_DATASET, _PROMPT, _BATCH = "benchmark", "benchmark", 1_000
_WORKERS = (1, 2, 4)
_EVALUATORS = [{"kind": "contains", "name": "correct"}, {"kind": "length", "name": "words", "unit": "words"}]


class Client:
    """The services of a gateway, with the key of its one project."""

    def __init__(self, channel: grpc.aio.Channel, secret_key: str) -> None:
        self._datasets: Any = DatasetServiceStub(channel)
        self._experiments: Any = ExperimentServiceStub(channel)
        self._prompts: Any = PromptServiceStub(channel)
        self._options = {"metadata": (("authorization", f"Bearer {secret_key}"),), "timeout": 300}

    async def prepare(self, items: int) -> None:
        """A prompt, and a dataset of so many items."""
        prompt = PromptVersionCreated(prompt_name=_PROMPT, text="{{question}} It takes 14 days. It costs nothing.")
        await self._prompts.CreatePrompt(prompts_pb2.CreatePromptRequest(prompt=prompt), **self._options)
        dataset = DatasetCreated(name=_DATASET)
        await self._datasets.CreateDataset(datasets_pb2.CreateDatasetRequest(dataset=dataset), **self._options)
        for first in range(0, items, _BATCH):
            recorded = [
                DatasetItemRecorded(
                    input_json=orjson.dumps({"question": f"How long does order {n} take?"}).decode(),
                    expected_output_json='"14 days"',
                )
                for n in range(first, min(first + _BATCH, items))
            ]
            request = datasets_pb2.RecordItemsRequest(dataset_name=_DATASET, items=recorded)
            await self._datasets.RecordItems(request, **self._options)

    async def start(self, *, latency: float = 0.0) -> str:
        """Start a run; its id."""
        asked = ExperimentRequested(
            name=uuid4().hex, repetitions=1, max_concurrency=1_000,
            task_json=orjson.dumps({
                "kind": "prompt", "prompt": {"name": _PROMPT, "version": 1},
                "provider": "mock", "model": "mock-large", "settings": {"latency_seconds": latency},
            }).decode(),
            evaluators_json=orjson.dumps(_EVALUATORS).decode(),
        )  # fmt: skip
        request = experiments_pb2.StartExperimentRequest(
            experiment=asked, dataset=datasets_pb2.DatasetSelector(name=_DATASET)
        )
        started = await self._experiments.StartExperiment(request, **self._options)
        return str(started.run.request.run_id)

    async def finished(self, run_id: str) -> AsyncIterator[int]:
        """How many items are finished, at each change until the run has ended."""
        request = experiments_pb2.WatchExperimentRequest(run_id=run_id)
        async for answer in self._experiments.WatchExperiment(request, **self._options):
            yield answer.run.items_finished


@asynccontextmanager
async def _prepared(workers: int, items: int) -> AsyncIterator[tuple[Stack, Client]]:
    async with (
        fresh_stack(more=["evaluator"] * (workers - 1)) as stack,
        grpc.aio.insecure_channel(stack.endpoint) as channel,
    ):
        client = Client(channel, stack.secret_key)
        await client.prepare(items)
        yield stack, client


async def rates(items: int) -> Table:
    """Items a second, from the call that starts the run to its end."""
    rows = []
    for workers in _WORKERS:
        async with _prepared(workers, items) as (stack, client):
            pids: dict[str, list[int]] = {}
            for process in stack.processes:
                if process.pid:
                    pids.setdefault(process.command.name, []).append(process.pid)
            before, began = used(pids), time.perf_counter()
            async for _ in client.finished(await client.start()):
                pass
            took, spent = time.perf_counter() - began, used(pids).since(before)
        cpu = ", ".join(
            f"{name} {1e3 * each / items:.1f}" for name, each in spent.by_role.items() if each / items > 5e-5
        )
        busy = spent.busy / spent.total
        rows.append([str(workers), f"{items / took:,.0f}", f"{1e3 * took / items:.2f}", cpu, f"{busy:.0%}"])
    return Table(
        f"A run over {items:,} items with two evaluators and a model that answers at once",
        ["Workers", "Items/s", "ms an item", "CPU ms an item", "Machine busy"],
        rows,
    )


async def death(items: int, lease_seconds: float) -> Table:
    """One of two workers is killed when a third of the items is finished."""
    settings = {"LODESTREAM_EVALUATOR_LEASE_SECONDS": str(lease_seconds)}
    os.environ.update(settings)
    rows = []
    async with _prepared(2, items) as (stack, client):
        for kill in (False, True):
            began, killed = time.perf_counter(), 0.0
            async for finished in client.finished(await client.start(latency=0.2)):
                if kill and not killed and finished >= items / 3:
                    (worker,) = stack.more
                    assert worker.pid is not None
                    os.kill(worker.pid, signal.SIGKILL)
                    killed = time.perf_counter()
            ended = time.perf_counter()
            after = f"{ended - killed:.1f}" if killed else ""
            rows.append(["one killed" if kill else "both live", f"{ended - began:.1f}", after])
    return Table(
        f"A run over {items:,} items of 0.2 s with two workers, leases of {lease_seconds:g} s",
        ["", "Seconds", "Of them after the kill"],
        rows,
    )


async def tables(items: int) -> list[Table]:
    """All of it."""
    return [await rates(items), await death(items // 4, 5.0)]


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments", description=__doc__)
    parser.add_argument("--items", type=int, default=4_000)
    for table in asyncio.run(tables(parser.parse_args().items)):
        print(f"{table}\n")


if __name__ == "__main__":
    main()
