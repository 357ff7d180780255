"""GetExperiment: a run, and how far it is."""

from lodestream_proto.v1.experiments_pb2 import GetExperimentRequest, GetExperimentResponse

from services.read.query.database import Database
from services.read.query.experiments.runs import find_run, messages_of
from services.read.query.experiments.summaries import Summaries
from services.read.query.paging import snapshot


async def get_experiment(
    summaries: Summaries, database: Database, project_id: str, request: GetExperimentRequest
) -> GetExperimentResponse:
    """One run.

    Raises RefusedError: the project has no such run.
    """
    async with snapshot(database) as connection:
        row = await find_run(connection, project_id, request.run_id)
        (run,) = await messages_of(connection, project_id, [row], summaries)
    return GetExperimentResponse(run=run)
