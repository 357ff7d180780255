"""ExperimentService's reads: the functions that answer its calls."""

from collections.abc import AsyncIterator
from functools import partial

from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.experiments_pb2_grpc import ExperimentServiceServicer

from services.read.query.database import Database
from services.read.query.experiments.compare import Comparisons
from services.read.query.experiments.items import list_experiment_items
from services.read.query.experiments.runs import get_experiment, list_experiments
from services.read.query.experiments.summaries import Summaries
from services.read.query.experiments.watch import RunWatcher
from services.read.query.read_context import ReadContext
from shared.event_log.topics import EXPERIMENTS
from shared.runtime.refusal import Context

_TOPICS = (EXPERIMENTS,)


class ExperimentService(ExperimentServiceServicer):
    """The reads of runs; the methods that start, pause and end them are the gateway's and are not served here.

    What every read may be refused with is said at QueryService.
    """

    def __init__(self, read_context: ReadContext, comparisons: Comparisons) -> None:
        self._read_context, self._comparisons = read_context, comparisons
        self._summaries = Summaries()
        self.watcher = RunWatcher(read_context, self._summaries)

    async def GetExperiment(  # noqa: N802 - gRPC's name
        self, request: pb.GetExperimentRequest, context: Context
    ) -> pb.GetExperimentResponse:
        """Return a run with the summary of its results.

        Args:
            request: A run id.
            context: The call.

        Returns:
            The run.

        Raises:
            InvalidError: The id is wrong.
            NotFoundError: The project has no such run.
        """
        return await self._read_context.run(partial(get_experiment, self._summaries), request, context, _TOPICS)

    async def ListExperiments(  # noqa: N802
        self, request: pb.ListExperimentsRequest, context: Context
    ) -> pb.ListExperimentsResponse:
        """Return runs, the newest first.

        Args:
            request: The dataset's name, a part of the run's name, states; `page_size` (50 by default, at most 1,000)
                and `page_token`.
            context: The call.

        Returns:
            A page of runs, and a token when there are more.

        Raises:
            InvalidError: A field of the filter or the token is wrong.
        """
        return await self._read_context.run(partial(list_experiments, self._summaries), request, context, _TOPICS)

    async def ListExperimentItems(  # noqa: N802
        self, request: pb.ListExperimentItemsRequest, context: Context
    ) -> pb.ListExperimentItemsResponse:
        """Return finished items of a run, by item and repetition.

        Args:
            request: The run id, whether to list only those with an error, and with the dataset's items; `page_size`
                (50 by default, at most 1,000) and `page_token`.
            context: The call.

        Returns:
            A page of items, and a token when there are more.

        Raises:
            InvalidError: A field of the filter or the token is wrong.
            NotFoundError: The project has no such run.
        """
        return await self._read_context.run(list_experiment_items, request, context, _TOPICS)

    async def CompareExperiments(  # noqa: N802
        self, request: pb.CompareExperimentsRequest, context: Context
    ) -> pb.CompareExperimentsResponse:
        """Compare runs with a baseline, paired by item.

        Args:
            request: The baseline and 1 to 10 runs; metrics (none: all), the confidence of intervals (0.95 by
                default), what to segment by, and a seed.
            context: The call.

        Returns:
            Differences with intervals and corrected p-values, and the items that differ most.

        Raises:
            InvalidError: A run, a name or the confidence is wrong.
            NotFoundError: The project has no such run.
        """

        async def compare(
            _database: Database, project_id: str, request: pb.CompareExperimentsRequest
        ) -> pb.CompareExperimentsResponse:
            return await self._comparisons.compare_experiments(project_id, request)

        return await self._read_context.run(compare, request, context, _TOPICS)

    async def WatchExperiment(  # noqa: N802
        self, request: pb.WatchExperimentRequest, context: Context
    ) -> AsyncIterator[pb.WatchExperimentResponse]:
        """Send a run at once, and then each change of it with the items that finished since, until it has ended.

        Args:
            request: A run id, and whether to send items.
            context: The call.

        Yields:
            A response for each change.

        Raises:
            InvalidError: The id is wrong.
            NotFoundError: The project has no such run.
        """
        changes = self.watcher.stream(request, context)
        async for response in self._read_context.stream("WatchExperiment", context, changes):
            yield response
