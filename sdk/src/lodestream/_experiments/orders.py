"""What others say of a run while it runs here: that it pauses, goes on, or is over."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Self

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream._diagnostics import log
from lodestream._experiments.calling import in_thread
from lodestream._experiments.errors import ExperimentError
from lodestream._experiments.requests import find_run
from lodestream._experiments.runs import Run, how_it_ended

LOOK_SECONDS = 2.0
_HEED_SECONDS = 0.05


class Orders:
    """Looked for once in a while. A server that is away gives none, and the run goes on."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._paused = False
        self._follower: asyncio.Task[None] | None = None
        self.ended = ""
        """How the run was ended, in words; empty while it was not."""

    async def __aenter__(self) -> Self:
        if self._run.recorded:
            self._follower = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._follower is not None:
            self._follower.cancel()

    async def until_going(self, stopped: Callable[[], bool]) -> None:
        """Wait while the run is paused, and is not stopped here."""
        while self._paused and not self.ended and not stopped():
            await asyncio.sleep(_HEED_SECONDS)

    async def _follow(self) -> None:
        while not self.ended:
            await asyncio.sleep(LOOK_SECONDS)
            ask = partial(find_run, self._run.client._line, self._run.id, retries=0)  # noqa: SLF001 - of the same package
            try:
                found = await in_thread(ask)
            except ExperimentError as error:
                log.debug("looking for orders: %s", error)
                continue
            if found is not None:
                self._take(found)

    def _take(self, found: pb.ExperimentRun) -> None:
        self.ended = how_it_ended(found)
        paused = found.state == pb.EXPERIMENT_STATE_PAUSED
        if paused and not self._paused:
            log.warning("run %r is paused; no item is begun until it is resumed", found.request.name)
        self._paused = paused
