"""The one route of this service: the topic of spans, in batches."""

from typing import Annotated

from faststream import Context

from services.projections.traces.folding.projection import Projected
from shared.event_log.assignment import Assignment
from shared.event_log.broker import log_router, read_batches
from shared.event_log.codec import Recorded
from shared.event_log.topics import TRACES
from shared.read_model.projecting.projector import Projector

router = log_router()
assignment = Assignment()
subscriber = read_batches(router, TRACES, group="lodestream-traces", listener=assignment)


@subscriber
async def keep_traces(
    records: list[Recorded], projector: Annotated[Projector[Projected], Context("projector")]
) -> None:
    """Spans become rows of the traces read model, each once."""
    with assignment.in_flight():
        await projector.fold(records)
