"""The one route of this service: the topic of spans, in batches."""

from typing import Annotated

from faststream import Context

from services.projections.traces.projector import Projector
from shared.event_log.assignment import Assignment
from shared.event_log.broker import log_router
from shared.event_log.codec import Recorded
from shared.event_log.topics import TRACES

router = log_router()
assignment = Assignment()

TracesProjector = Annotated[Projector, Context("projector")]


subscriber = router.subscriber(
    TRACES,
    group_id="lodestream-traces",
    batch=True,
    max_records=256,
    batch_timeout_ms=50,
    auto_offset_reset="earliest",
    session_timeout_ms=15_000,
    heartbeat_interval_ms=1_000,  # how soon one learns that the group is dealt anew; until then all of it waits
    rebalance_timeout_ms=60_000,
    listener=assignment,
    no_reply=True,
)


@subscriber
async def keep_traces(records: list[Recorded], projector: TracesProjector) -> None:
    """Spans become rows of the traces read model, each once."""
    with assignment.in_flight():
        await projector.fold(records)
