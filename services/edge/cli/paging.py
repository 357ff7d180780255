"""Pages of a list: the options that choose them, and reading as many as were asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer
from lodestream_proto.v1.datasets_pb2 import DatasetHistoryResponse, ListDatasetsResponse, ListItemsResponse
from lodestream_proto.v1.experiments_pb2 import ListExperimentItemsResponse, ListExperimentsResponse
from lodestream_proto.v1.prompts_pb2 import LabelHistoryResponse, ListPromptsResponse
from lodestream_proto.v1.query_pb2 import GetSessionResponse, ListSessionsResponse, ListTracesResponse
from lodestream_proto.v1.scores_pb2 import ListScoresResponse

Answer = TypeVar(
    "Answer",
    ListTracesResponse,
    ListSessionsResponse,
    GetSessionResponse,
    ListPromptsResponse,
    LabelHistoryResponse,
    ListScoresResponse,
    ListDatasetsResponse,
    ListItemsResponse,
    DatasetHistoryResponse,
    ListExperimentsResponse,
    ListExperimentItemsResponse,
)

_BIGGEST_PAGE = 1_000  # the query service's


@dataclass(frozen=True, slots=True)
class Pages:
    """How much of a list."""

    limit: int | None
    """None: all."""
    token: str


def pages(
    *,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, metavar="N", help="At most so many.")] = 50,
    page_token: Annotated[str, typer.Option(metavar="TOKEN", help="Go on where the last page ended.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All of them, whatever --limit says.")] = False,
) -> Pages:
    """Which part of a list."""
    return Pages(None if everything else limit, page_token)


def gather(wanted: Pages, fetch: Callable[[int, str], Answer], rows_of: Callable[[Answer], Any]) -> Answer:
    """The last answer, with the rows of all. `fetch` gets the size of a page and its token."""
    rows: list[Any] = []
    token = wanted.token
    while True:
        left = _BIGGEST_PAGE if wanted.limit is None else wanted.limit - len(rows)
        answer = fetch(min(left, _BIGGEST_PAGE), token)
        rows += rows_of(answer)
        token = answer.next_page_token
        if not token or len(rows) == wanted.limit:
            break
    del rows_of(answer)[:]
    rows_of(answer).extend(rows)
    return answer
