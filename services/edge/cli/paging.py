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
    """How much of a list to read."""

    limit: int | None
    """None: all."""
    token: str


def pages(
    *,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, metavar="N", help="Show at most this many.")] = 50,
    page_token: Annotated[str, typer.Option(metavar="TOKEN", help="Continue where the previous page ended.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Show all, ignoring --limit.")] = False,
) -> Pages:
    """Which part of a list."""
    return Pages(None if everything else limit, page_token)


def gather(pages: Pages, fetch: Callable[[int, str], Answer], rows_of: Callable[[Answer], Any]) -> Answer:
    """Read pages and return the last answer with the rows of all. `fetch` takes a page size and a page token."""
    rows: list[Any] = []
    token = pages.token
    while True:
        remaining = _BIGGEST_PAGE if pages.limit is None else pages.limit - len(rows)
        response = fetch(min(remaining, _BIGGEST_PAGE), token)
        rows += rows_of(response)
        token = response.next_page_token
        if not token or len(rows) == pages.limit:
            break
    del rows_of(response)[:]
    rows_of(response).extend(rows)
    return response
