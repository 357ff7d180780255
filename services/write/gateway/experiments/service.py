"""ExperimentService: runs are asked for and moved here, the reads are forwarded."""

from typing import Any

import asyncpg
import grpc
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.experiment_event_pb2 import ExperimentCancelled, ExperimentPaused, ExperimentResumed

from services.write.gateway import proxy
from services.write.gateway.call import Call, Door
from services.write.gateway.experiments.events import checked_record
from services.write.gateway.experiments.runs import Runs
from services.write.gateway.experiments.starting import Starting, refuse_another
from services.write.gateway.judge import Judge
from services.write.gateway.prompts.requests import read
from shared.rules.datasets import check_author
from shared.rules.experiments import MAX_REASON
from shared.rules.texts import check_id, check_text
from shared.runtime.refusal import NotFoundError, RefusedError

SERVICE = pb.DESCRIPTOR.services_by_name["ExperimentService"]
_GOING_ON = (pb.EXPERIMENT_STATE_RUNNING, pb.EXPERIMENT_STATE_PAUSED)


class ExperimentWrites:
    """Answers with the run as the read model has it then; the same request again changes nothing."""

    def __init__(self, door: Door, query: grpc.aio.Channel, pool: asyncpg.Pool, runs: Runs, judge: Judge) -> None:
        self._door, self._query, self._runs = door, query, runs
        self._starting = Starting(pool, runs, judge)
        self._get: Any = query.unary_unary(
            f"/{SERVICE.full_name}/GetExperiment",
            request_serializer=pb.GetExperimentRequest.SerializeToString,
            response_deserializer=pb.GetExperimentResponse.FromString,
        )

    def handlers(self) -> grpc.GenericRpcHandler:
        """Every method of the service, bytes to bytes."""
        ours: dict[str, Any] = {
            "StartExperiment": self._door.method("StartExperiment", self._start),
            "PauseExperiment": self._door.method("PauseExperiment", self._pause),
            "ResumeExperiment": self._door.method("ResumeExperiment", self._resume),
            "CancelExperiment": self._door.method("CancelExperiment", self._cancel),
        }
        return grpc.method_handlers_generic_handler(
            SERVICE.full_name, {**proxy.forwarded(self._query, SERVICE, but=ours), **ours}
        )

    async def _start(self, call: Call) -> pb.StartExperimentResponse:
        position = ""
        with call.held() as room:
            asked = read(pb.StartExperimentRequest, call.request)
            room.charge_payload(asked.experiment, "experiment")
            meant = await self._starting.meant(call.project_id, asked)
            if not meant.is_there:
                record = checked_record("experiment_requested", meant.request, call.envelope())
                position = await call.append([record])
        run = await self._readable(call, meant.request.run_id, position)
        refuse_another(run.request, meant.request)  # somebody else's may have come first
        return pb.StartExperimentResponse(run=run, created=not meant.is_there, position=position)

    async def _pause(self, call: Call) -> pb.PauseExperimentResponse:
        asked = read(pb.PauseExperimentRequest, call.request)
        event = ExperimentPaused(run_id=asked.run_id, author=asked.author)
        run, position = await self._move(call, "experiment_paused", event)
        return pb.PauseExperimentResponse(run=run, position=position)

    async def _resume(self, call: Call) -> pb.ResumeExperimentResponse:
        asked = read(pb.ResumeExperimentRequest, call.request)
        event = ExperimentResumed(run_id=asked.run_id, author=asked.author)
        run, position = await self._move(call, "experiment_resumed", event)
        return pb.ResumeExperimentResponse(run=run, position=position)

    async def _cancel(self, call: Call) -> pb.CancelExperimentResponse:
        asked = read(pb.CancelExperimentRequest, call.request)
        check_text(asked.reason, "reason", least=0, most=MAX_REASON)
        event = ExperimentCancelled(run_id=asked.run_id, reason=asked.reason, author=asked.author)
        run, position = await self._move(call, "experiment_cancelled", event)
        return pb.CancelExperimentResponse(run=run, position=position)

    async def _move(self, call: Call, kind: str, event: Any) -> tuple[pb.ExperimentRun, str]:
        """The run after an event that moves it. One that is cancelled already can be cancelled again."""
        with call.held():
            check_id(event.run_id, "run_id")
            check_author(event.author, "author")
            stored = await self._runs.stored(call.project_id, event.run_id)
            if stored is None:
                raise NotFoundError(f"run {event.run_id!r}")
            is_again = kind == "experiment_cancelled" and stored.state == pb.EXPERIMENT_STATE_CANCELLED
            if stored.state not in _GOING_ON and not is_again:
                why = f"run {event.run_id!r} has ended: {_in_words(stored.state)}"
                raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, why)
            position = await call.append([checked_record(kind, event, call.envelope())])
        return await self._readable(call, event.run_id, position), position

    async def _readable(self, call: Call, run_id: str, position: str) -> pb.ExperimentRun:
        request = pb.GetExperimentRequest(run_id=run_id)
        if not position:
            answer: pb.GetExperimentResponse = await call.ask(self._get, request)
        else:
            answer = await call.when_readable(self._get, request, position, f"run {run_id!r}")
        return answer.run


def _in_words(state: int) -> str:
    name = next((name for name, value in pb.ExperimentState.items() if value == state), str(state))
    return name.removeprefix("EXPERIMENT_STATE_").lower().replace("_", " ")
