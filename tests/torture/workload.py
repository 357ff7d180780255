"""A program that writes and keeps its ledger: `python -m tests.torture.workload WAY --ledgers FOLDER …`, until SIGTERM.

The key comes from LODESTREAM_SECRET_KEY and LODESTREAM_PUBLIC_KEY. Every life begins a ledger of its own.
"""

import argparse
import asyncio
import os
import signal
import uuid
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import grpc

from tests.torture import driver, hostile_way, poison_way, sdk_way
from tests.torture.experiments_way import ExperimentsWriter
from tests.torture.ledger import Ledger
from tests.torture.prompts_way import PromptsWriter
from tests.torture.scores_way import ScoresWriter
from tests.torture.story import Story, Telling, export_request
from tests.torture.ways import OPTIONS, Answer, Attempt, export, record

_WORKERS = 4
_BURST = 6  # requests that a worker sends at once, now and then: those that arrive together may share a record
_LONGEST_WAIT, _LAST_RETRIES = 1.0, 15.0  # seconds: between attempts; for what is not settled when the end is asked


class Writer:
    """Workers that each send one request after the other, and again until it is settled."""

    def __init__(self, asked: argparse.Namespace, ledger: Ledger, channel: grpc.aio.Channel) -> None:
        self._asked, self._ledger, self._channel = asked, ledger, channel
        self._story = Story(f"{asked.seed}/{asked.life}")
        self._random = self._story.random
        self._before: deque[list[Telling]] = deque(maxlen=50)
        self._left = asked.requests
        self.stop = asyncio.Event()

    async def run(self) -> None:
        await asyncio.gather(*(self._work() for _ in range(_WORKERS)))

    async def _work(self) -> None:
        while self._left > 0 and not self.stop.is_set():
            together = min(self._left, 1 if self._random.random() < 0.9 else _BURST)
            self._left -= together
            await asyncio.gather(*(self._send(self._next()) for _ in range(together)))
            await self._pause(_WORKERS * together / self._asked.rate)

    def _next(self) -> list[Telling]:
        """What to tell now: something new, or the same as before."""
        if self._before and self._random.random() < 0.08:
            return self._random.choice(self._before)
        self._before.append(self._story.request())
        return self._before[-1]

    async def _send(self, tellings: list[Telling]) -> None:
        known = self._random.random() >= 0.01
        secret = os.environ["LODESTREAM_SECRET_KEY"] if known else "sk-ls-nobody"
        attempt = self._attempt(tellings)
        send = self._ledger.intend([telling.told for telling in tellings])
        give_up = float("inf")
        while True:
            answer: Answer = await attempt(secret)
            self._ledger.learn(
                send, answer.verdict, position=answer.position, code=answer.code, rejected=answer.rejected
            )
            if objection := answer.objection(known_key=known):
                self._ledger.object(objection, f"{self._asked.way} #{send}")
            now = asyncio.get_running_loop().time()
            if self.stop.is_set():
                give_up = min(give_up, now + _LAST_RETRIES)
            if answer.verdict != "unknown" or now > give_up:
                return
            # Sooner than the server asks for: more attempts, more trouble. What it asks for is tested elsewhere.
            await asyncio.sleep(min(answer.retry_after or 0.2, _LONGEST_WAIT))
            self._ledger.retry(send)

    def _attempt(self, tellings: list[Telling]) -> Attempt:
        request, squeezed = export_request(tellings), self._random.random() < 0.5
        if self._asked.way == "record":
            return record(self._channel, request, compressed=squeezed)
        return export(self._channel, request, gzip=squeezed)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.stop.wait()
        except TimeoutError:
            pass


_WRITERS: Mapping[str, driver.MakeWriter] = {
    "scores": ScoresWriter,
    "prompts": PromptsWriter,
    "experiments": ExperimentsWriter,
}
"""What writes anything but spans, for several projects."""


async def write(asked: argparse.Namespace, ledger: Ledger) -> None:
    """Write by OTLP or Record until told to stop, or until all is sent."""
    async with grpc.aio.insecure_channel(asked.endpoint, options=OPTIONS) as channel:
        writer = Writer(asked, ledger, channel)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, writer.stop.set)
        asked.tell_ready()
        await writer.run()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.workload")
    parser.add_argument("way", choices=["otlp", "record", "sdk", "poison", "hostile", *_WRITERS])
    parser.add_argument("--ledgers", type=Path, required=True)
    parser.add_argument("--endpoint", required=True, help="host:port of the gateway; of Kafka for poison")
    parser.add_argument("--project", required=True, help="whose key it is")
    parser.add_argument(
        "--tenants", type=Path, help="a file of projects and their keys, for those that write for several"
    )
    parser.add_argument("--kafka", default="", help="host:port, for what is put straight into the log")
    parser.add_argument("--kinds", default="", help="of attacks, with commas between them; by default all")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--requests", type=int, default=10**9)
    parser.add_argument("--rate", type=float, default=30.0, help="requests a second, at most")
    parser.add_argument("--spool", type=Path, help="for the SDK")
    parser.add_argument("--ready", type=Path, help="a file to make once SIGTERM is understood")
    parser.add_argument("--drain", action="store_true", help="the SDK only delivers what others left")
    asked = parser.parse_args()
    asked.life = uuid.uuid4().hex[:8]
    asked.tell_ready = asked.ready.touch if asked.ready else lambda: None
    path = asked.ledgers / f"{asked.way}-{asked.life}.ledger"
    with Ledger(path, way=asked.way, project=asked.project) as ledger:
        if asked.way == "sdk":
            sdk_way.write(asked, ledger)
        elif asked.way == "poison":
            asyncio.run(poison_way.write(asked, ledger))
        elif asked.way == "hostile":
            asyncio.run(hostile_way.write(asked, ledger, os.environ["LODESTREAM_SECRET_KEY"]))
        elif make := _WRITERS.get(asked.way):
            asyncio.run(driver.write(asked, ledger, make))
        else:
            asyncio.run(write(asked, ledger))


if __name__ == "__main__":
    main()
