"""What the server's ExperimentService is asked."""

from collections.abc import Iterator
from typing import TypeVar

from google.protobuf.message import Message
from lodestream_proto.v1 import experiments_pb2 as pb
from lodestream_proto.v1.query_pb2 import WaitFor

from lodestream._delivery.channel import FailureKind, RpcChannel, RpcError, call_with_retries
from lodestream._experiments.errors import (
    ExperimentError,
    ExperimentNotFoundError,
    ExperimentRefusedError,
    ExperimentUnavailableError,
)

_RETRIES, _SECONDS = 4, 15.0
_PAGE = 200
M = TypeVar("M", bound=Message)


def call_experiment_service(
    channel: RpcChannel,
    method: str,
    request: Message,
    response: type[M],
    *,
    seconds: float = _SECONDS,
    retries: int | None = None,
) -> M:
    """The answer.

    Raises ExperimentError.
    """
    retries = _RETRIES if retries is None else retries
    try:
        answer = call_with_retries(channel, f"ExperimentService/{method}", request, retries=retries, timeout=seconds)
    except RpcError as error:
        raise _refusal_of(error) from None
    return response.FromString(answer)


def find_run(
    channel: RpcChannel, run_id: str, position: str = "", *, retries: int | None = None
) -> pb.ExperimentRun | None:
    """The run; None when there is none.

    Raises ExperimentError.
    """
    request = pb.GetExperimentRequest(run_id=run_id, wait_for=wait_for(position))
    try:
        return call_experiment_service(channel, "GetExperiment", request, pb.GetExperimentResponse, retries=retries).run
    except ExperimentNotFoundError:
        return None


def list_finished_items(channel: RpcChannel, run_id: str, position: str = "") -> Iterator[pb.ExperimentItem]:
    """All that there are, page by page.

    Raises ExperimentError.
    """
    token, size = "", _PAGE
    while True:
        request = pb.ListExperimentItemsRequest(
            run_id=run_id, page_size=size, page_token=token, wait_for=wait_for(position), with_dataset_items=True
        )
        try:
            answer = call_experiment_service(channel, "ListExperimentItems", request, pb.ListExperimentItemsResponse)
        except TooLargeError:
            if size == 1:
                raise
            size = max(size // 4, 1)
            continue
        yield from answer.items
        token = answer.next_page_token
        if not token:
            return


class TooLargeError(ExperimentUnavailableError):
    """An answer that does not come through: ask for less."""


def wait_for(position: str) -> WaitFor | None:
    """For a read that has to see what was delivered."""
    return WaitFor(position=position, timeout_ms=10_000) if position else None


def _refusal_of(error: RpcError) -> ExperimentError:
    if error.status == "NOT_FOUND":
        return ExperimentNotFoundError(error.details)
    if error.status == "RESOURCE_EXHAUSTED" and error.retry_after is None:
        return TooLargeError(str(error))
    return (
        ExperimentRefusedError(error.details)
        if error.kind is FailureKind.PERMANENT
        else ExperimentUnavailableError(str(error))
    )
