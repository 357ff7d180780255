"""GetDataset: a dataset as it is, or as it was at a version or an instant."""

from lodestream_proto.v1.datasets_pb2 import GetDatasetRequest, GetDatasetResponse

from services.read.query.database import Database
from services.read.query.datasets import messages
from services.read.query.datasets.selected import QUERIES, select
from services.read.query.paging import snapshot

_GET_DATASET = QUERIES["get_dataset"]


async def get_dataset(database: Database, project_id: str, request: GetDatasetRequest) -> GetDatasetResponse:
    """One dataset.

    Raises RefusedError: the selector can't be, or the project has, or had then, nothing it selects.
    """
    async with snapshot(database) as connection:
        selected = await select(connection, project_id, request.dataset)
        row = await connection.fetchrow(_GET_DATASET, project_id, selected.dataset_id, selected.version)
    return GetDatasetResponse(dataset=messages.dataset(selected.dataset, selected.version, row))
