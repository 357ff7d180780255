"""The way to the gateway: where it is, with which key, and how long an answer may take."""

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from lodestream_proto.v1.datasets_pb2_grpc import DatasetServiceStub
from lodestream_proto.v1.experiments_pb2_grpc import ExperimentServiceStub
from lodestream_proto.v1.ingest_pb2_grpc import IngestServiceStub
from lodestream_proto.v1.prompts_pb2_grpc import PromptServiceStub
from lodestream_proto.v1.query_pb2_grpc import QueryServiceStub
from lodestream_proto.v1.scores_pb2_grpc import ScoreServiceStub

from services.edge.cli.errors import CliError, ExitCode, rpc_error

DEFAULT_ENDPOINT = "127.0.0.1:4317"
_BIGGEST_ANSWER = 256 * 1024 * 1024  # bytes: a trace with the content of ten thousand spans

_PAUSE = 2.0  # seconds before the last try; a part of it before each of the others

Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway and a key for it."""

    endpoint: str
    public_key: str
    secret_key: str
    origin: str
    """Where endpoint and key were found, for people."""


def choose_target(
    endpoint: str | None, public_key: str | None, secret_key: str | None, local: Mapping[str, str]
) -> Target:
    """What was given, by options or environment, completed by what a local stack names (`local`), then by defaults.

    A local stack's key goes only to that stack. Raises CliError when there is no secret key.
    """
    address = endpoint or local.get("LODESTREAM_ENDPOINT") or DEFAULT_ENDPOINT
    if secret_key:
        return Target(address, public_key or "", secret_key, "the options or the environment")
    if local.get("LODESTREAM_SECRET_KEY") and address == local.get("LODESTREAM_ENDPOINT"):
        return Target(
            address, local.get("LODESTREAM_PUBLIC_KEY", ""), local["LODESTREAM_SECRET_KEY"], "the local stack"
        )
    raise CliError(
        "no key: set LODESTREAM_PUBLIC_KEY and LODESTREAM_SECRET_KEY, or give --public-key and --secret-key",
        ExitCode.USAGE,
    )


class Gateway:
    """An open connection. Calls raise CliError."""

    def __init__(self, target: Target, channel: grpc.Channel, timeout: float) -> None:
        """`timeout` in seconds holds for every call that is not a stream."""
        self.target = target
        self.query = QueryServiceStub(channel)
        self.prompts = PromptServiceStub(channel)
        self.scores = ScoreServiceStub(channel)
        self.datasets = DatasetServiceStub(channel)
        self.experiments = ExperimentServiceStub(channel)
        self.ingest = IngestServiceStub(channel)
        self._timeout = timeout
        self._metadata = [("authorization", _authorization(target))]

    def call(self, method: Callable[..., Answer], request: Message, *, tries: int = 1) -> Answer:
        """Call a method and return its answer. With several `tries`, a transient error is retried, later each time."""
        while True:
            tries -= 1
            try:
                return method(request, timeout=self._timeout, metadata=self._metadata)
            except grpc.RpcError as error:
                failure = rpc_error(error, self.target.endpoint)
                if tries < 1 or not failure.transient:
                    raise failure from None
            time.sleep(_PAUSE / tries)

    def stream(self, method: Callable[..., Iterator[Answer]], request: Message) -> Iterator[Answer]:
        """Call a streaming method and yield its answers until it ends."""
        try:
            yield from method(request, metadata=self._metadata)
        except grpc.RpcError as error:
            raise rpc_error(error, self.target.endpoint) from None


@contextmanager
def connected(target: Target, timeout: float) -> Iterator[Gateway]:
    """A gateway whose channel is closed at the end. An `https://` endpoint uses TLS; nothing is sent yet."""
    scheme, _, address = target.endpoint.rpartition("://")
    options = [("grpc.max_receive_message_length", _BIGGEST_ANSWER)]
    match scheme:
        case "" | "http" | "grpc":
            channel = grpc.insecure_channel(address, options)
        case "https" | "grpcs":
            channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
        case _:
            raise CliError(f"the endpoint {target.endpoint!r} is not host:port, http:// or https://", ExitCode.USAGE)
    with channel:
        yield Gateway(target, channel, timeout)


def _authorization(target: Target) -> str:
    if not target.public_key:
        return f"Bearer {target.secret_key}"
    return "Basic " + base64.b64encode(f"{target.public_key}:{target.secret_key}".encode()).decode()
