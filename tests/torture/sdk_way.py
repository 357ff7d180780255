"""The SDK as programs use it: observations end, `flush` says what became of them, a kill may come at any moment."""

import argparse
import random
import signal
import threading
import time
from pathlib import Path

from lodestream import Lodestream, Observation

from tests.torture.ledger import Ledger, Told
from tests.torture.wire import said_digest

_DRAIN_SECONDS = 60.0


def write(asked: argparse.Namespace, ledger: Ledger) -> None:
    """Tell small trees of observations until told to stop; with `drain` only one, and wait for what others left."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    asked.tell_ready()
    rng = random.Random(f"{asked.seed}/{asked.life}")
    client = Lodestream(endpoint=asked.endpoint, spool_dir=asked.spool, flush_interval=0.1)  # keys: the environment's
    try:
        for _ in range(1 if asked.drain else asked.requests):
            _burst(client, ledger, rng)
            if stop.wait(1 / asked.rate):
                break
        if asked.drain:
            _wait_for_others(asked.spool)
    finally:
        client.shutdown(10)


def _burst(client: Lodestream, ledger: Ledger, rng: random.Random) -> None:
    """What a flush left pending was promised only if it survives the process."""
    observations, told = [], []
    root: Observation | None = None
    trace_id = client.create_trace_id()
    for number in range(rng.randint(1, 6)):
        payload, name = rng.randbytes(rng.choice((8, 500, 3_000))).hex(), f"observed {number}"
        parent = root.id if root else None
        one = client.start_observation(
            name=name, input=payload, trace_context={"trace_id": trace_id, "parent_span_id": parent}
        )
        root = root or one
        observations.append(one)
        told.append(Told(trace_id, one.id, said_digest(trace_id, one.id, name, payload)))
    send, before = ledger.intend(told), client.receipt.dropped
    for one in reversed(observations):
        one.end()
    receipt = client.flush(rng.choice((0.05, 0.5, 3.0)))
    if receipt.dropped > before:
        ledger.learn(send, "unknown", code="dropped")
    elif not receipt.pending:
        ledger.learn(send, "acked", position=receipt.position)
    elif receipt.durable:
        ledger.learn(send, "spooled", code=receipt.problem)
    else:
        ledger.learn(send, "unknown", code=f"only in memory: {receipt.problem}")


def _wait_for_others(spool: Path) -> None:
    end = time.monotonic() + _DRAIN_SECONDS
    while left := sum(map(_size, spool.glob("*/seg-*.log"))):
        if time.monotonic() > end:
            raise SystemExit(f"the spool still holds {left} bytes after {_DRAIN_SECONDS:.0f} s")
        time.sleep(0.1)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
