"""The one route of this service: the topic of prompts, in batches."""

from typing import Annotated

from faststream import Context

from services.projections.prompts.prompts import Prepared
from shared.event_log.assignment import Assignment
from shared.event_log.broker import log_router, read_batches
from shared.event_log.codec import Recorded
from shared.event_log.topics import PROMPTS
from shared.read_model.projecting.projector import Projector

router = log_router()
assignment = Assignment()
subscriber = read_batches(router, PROMPTS, group="lodestream-prompts", listener=assignment)


@subscriber
async def decide_commands(
    records: list[Recorded], projector: Annotated[Projector[Prepared], Context("projector")]
) -> None:
    """Commands get their verdicts, in the order of the log, each once."""
    with assignment.in_flight():
        await projector.fold(records)
