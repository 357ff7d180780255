"""The one route of this service: the topic of experiments, in batches."""

from typing import Annotated

from faststream import Context

from services.write.evaluator.fold import Folded
from shared.event_log.assignment import Assignment
from shared.event_log.broker import log_router, read_batches
from shared.event_log.codec import Recorded
from shared.event_log.topics import EXPERIMENTS
from shared.read_model.projecting.projector import Projector

router = log_router()
assignment = Assignment()
subscriber = read_batches(router, EXPERIMENTS, group="lodestream-evaluator", listener=assignment)


@subscriber
async def keep_runs(records: list[Recorded], projector: Annotated[Projector[Folded], Context("projector")]) -> None:
    """Runs of prompts, their results and their turns become what there is to do. Models are called elsewhere."""
    with assignment.in_flight():
        await projector.fold(records)
