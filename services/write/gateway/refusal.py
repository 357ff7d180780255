"""What is the gateway's own in refusing: quotas, as each kind of client understands them; calls without a message."""

from collections.abc import AsyncIterator

import grpc

from shared.runtime.refusal import InvalidError, RefusedError, UnavailableError


class OverQuotaError(UnavailableError):
    """The project sends more than its quota."""


class TooMuchError(RefusedError):
    """What a request holds is too much together: nothing of it is kept, it may come in parts."""

    def __init__(self, what: str) -> None:
        super().__init__(grpc.StatusCode.INVALID_ARGUMENT, f"request: {what}")


def exhausted(over: OverQuotaError) -> RefusedError:
    """The same as clients of our own understand it."""
    return RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, over.reason, retry_seconds=over.retry_seconds)


async def the_request(requests: AsyncIterator[bytes]) -> bytes:
    """The message of a unary call. Registered as streams, such calls are judged before their bytes are read."""
    async for request in requests:
        return request
    raise InvalidError("request", "the call has no message, or one that is too large")
