"""One request of the server's, made again where that may help."""

import random
import time

from google.protobuf.message import Message

from lodestream._delivery.channel import Line, LineError
from lodestream._delivery.outcome import Why

_PACKAGE = "/lodestream_proto.v1."
CONFLICT = "ABORTED"  # of a command; the same one has the same verdict
_LONGEST_PAUSE = 2.0


def ask(line: Line, method: str, request: Message, *, retries: int, timeout: float) -> bytes:
    """The answer to a service's method, for example "PromptService/GetPrompt".

    Raises LineError.
    """
    data, attempt = request.SerializeToString(), 0
    while True:
        try:
            return line.ask(_PACKAGE + method, data, timeout=timeout)[0]
        except LineError as error:
            attempt += 1
            if error.why not in (Why.AWAY, Why.BROKEN) or error.status == CONFLICT or attempt > retries:
                raise
            pause = min(error.retry_after or 0.1 * 2**attempt, _LONGEST_PAUSE)
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter
