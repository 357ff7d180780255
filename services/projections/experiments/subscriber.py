"""The one route of this service: the topic of datasets and experiments, in batches."""

from typing import Annotated

from faststream import Context

from services.projections.experiments.experiments import Prepared
from shared.event_log.assignment import Assignment
from shared.event_log.broker import log_router, read_batches
from shared.event_log.codec import Recorded
from shared.event_log.topics import EXPERIMENTS
from shared.read_model.projecting.projector import Projector

_MAX_RECORDS = 2_048  # a record holds one item or one result, so many of them make a transaction worth its while

router = log_router()
assignment = Assignment()
subscriber = read_batches(
    router, EXPERIMENTS, group="lodestream-experiments", listener=assignment, max_records=_MAX_RECORDS
)


@subscriber
async def keep_experiments(
    records: list[Recorded], projector: Annotated[Projector[Prepared], Context("projector")]
) -> None:
    """Datasets change and runs go on, in the order of the log, each event once."""
    with assignment.in_flight():
        await projector.fold(records)
