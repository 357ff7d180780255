"""ScoreService: the reads of it. Its one write, DefineScoreConfig, is the gateway's."""

from lodestream_proto.v1 import scores_pb2 as pb
from lodestream_proto.v1.scores_pb2_grpc import ScoreServiceServicer

from services.read.query.reading import Reads
from services.read.query.scores.aggregates import aggregate_scores
from services.read.query.scores.lists import get_score_history, list_score_configs, list_scores
from shared.event_log.topics import SCORES, TRACES
from shared.runtime.refusal import Context

_TOPICS = (SCORES,)


class ScoreService(ScoreServiceServicer):
    """The reads of one database."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def ListScoreConfigs(  # noqa: N802 - gRPC's name
        self, request: pb.ListScoreConfigsRequest, context: Context
    ) -> pb.ListScoreConfigsResponse:
        return await self._reads.answer(list_score_configs, request, context, _TOPICS)

    async def ListScores(self, request: pb.ListScoresRequest, context: Context) -> pb.ListScoresResponse:  # noqa: N802
        return await self._reads.answer(list_scores, request, context, _TOPICS)

    async def GetScoreHistory(  # noqa: N802
        self, request: pb.GetScoreHistoryRequest, context: Context
    ) -> pb.GetScoreHistoryResponse:
        return await self._reads.answer(get_score_history, request, context, _TOPICS)

    async def AggregateScores(  # noqa: N802
        self, request: pb.AggregateScoresRequest, context: Context
    ) -> pb.AggregateScoresResponse:
        of_traces = request.grouping in (pb.SCORE_GROUPING_PROMPT_VERSION, pb.SCORE_GROUPING_RELEASE)
        return await self._reads.answer(aggregate_scores, request, context, (TRACES, SCORES) if of_traces else _TOPICS)
