"""DatasetService: the reads of it. What changes datasets is the gateway's: here it is unknown."""

from lodestream_proto.v1 import datasets_pb2 as pb
from lodestream_proto.v1.datasets_pb2_grpc import DatasetServiceServicer

from services.read.query.datasets.dataset_history import dataset_history
from services.read.query.datasets.get_dataset import get_dataset
from services.read.query.datasets.list_datasets import list_datasets
from services.read.query.datasets.list_items import list_items
from services.read.query.reading import Reads
from shared.event_log.topics import EXPERIMENTS
from shared.runtime.refusal import Context

_TOPICS = (EXPERIMENTS,)


class DatasetService(DatasetServiceServicer):
    """The reads of one database."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def GetDataset(self, request: pb.GetDatasetRequest, context: Context) -> pb.GetDatasetResponse:  # noqa: N802 - gRPC's name
        return await self._reads.answer(get_dataset, request, context, _TOPICS)

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Context) -> pb.ListDatasetsResponse:  # noqa: N802
        return await self._reads.answer(list_datasets, request, context, _TOPICS)

    async def ListItems(self, request: pb.ListItemsRequest, context: Context) -> pb.ListItemsResponse:  # noqa: N802
        return await self._reads.answer(list_items, request, context, _TOPICS)

    async def DatasetHistory(  # noqa: N802
        self, request: pb.DatasetHistoryRequest, context: Context
    ) -> pb.DatasetHistoryResponse:
        return await self._reads.answer(dataset_history, request, context, _TOPICS)
