"""The one route of this service: the topic of scores, in batches."""

from typing import Annotated

from faststream import Context

from services.projections.scores.fold import Folded
from shared.event_log.assignment import Assignment
from shared.event_log.broker import log_router, read_batches
from shared.event_log.codec import Recorded
from shared.event_log.topics import SCORES
from shared.read_model.projecting.projector import Projector

_MAX_RECORDS = 2_048  # a record holds one score, so many of them make a transaction worth its while

router = log_router()
assignment = Assignment()
subscriber = read_batches(router, SCORES, group="lodestream-scores", listener=assignment, max_records=_MAX_RECORDS)


@subscriber
async def keep_scores(records: list[Recorded], projector: Annotated[Projector[Folded], Context("projector")]) -> None:
    """Scores and their configs become rows of the scores read model, each once."""
    with assignment.in_flight():
        await projector.fold(records)
