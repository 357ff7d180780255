"""Which gateway is asked with which key, and what is said when that fails."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from lodestream_proto.v1.query_pb2 import GetTraceRequest, GetTraceResponse, TailTracesRequest, TailTracesResponse
from lodestream_proto.v1.query_pb2_grpc import QueryServiceServicer, add_QueryServiceServicer_to_server

from services.all_in_one.ports import find_port
from services.edge.cli.connection import choose_target, connected
from services.edge.cli.errors import CliError, ExitCode

LOCAL = {
    "LODESTREAM_ENDPOINT": "127.0.0.1:5000",
    "LODESTREAM_PUBLIC_KEY": "pk-ls-local",
    "LODESTREAM_SECRET_KEY": "sk-ls-local",
}


class Refusing(QueryServiceServicer):
    """Refuses every trace with the code that is its id, for the reason that follows it."""

    def GetTrace(self, request: GetTraceRequest, context: grpc.ServicerContext) -> GetTraceResponse:  # noqa: N802
        code, _, details = request.trace_id.partition(" ")
        context.abort(grpc.StatusCode[code], details)

    def TailTraces(self, request: TailTracesRequest, context: grpc.ServicerContext) -> Iterator[TailTracesResponse]:  # noqa: N802
        yield TailTracesResponse()
        context.abort(grpc.StatusCode.UNAVAILABLE, "draining")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server in this process that refuses everything."""
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        add_QueryServiceServicer_to_server(Refusing(), server)  # type: ignore[abstract]  # the rest is UNIMPLEMENTED
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


def test_what_is_given_wins() -> None:
    target = choose_target("gateway:4317", "pk", "sk", LOCAL)
    assert (target.endpoint, target.public_key, target.secret_key) == ("gateway:4317", "pk", "sk")


def test_a_local_stack_completes_what_is_missing() -> None:
    target = choose_target(None, None, None, LOCAL)
    assert (target.endpoint, target.public_key, target.secret_key) == ("127.0.0.1:5000", "pk-ls-local", "sk-ls-local")
    assert choose_target(None, None, "sk", LOCAL).endpoint == "127.0.0.1:5000"
    assert choose_target(None, None, "sk", {}).endpoint == "127.0.0.1:4317"


def test_a_local_key_goes_nowhere_else() -> None:
    with pytest.raises(CliError, match="no key: set LODESTREAM_PUBLIC_KEY") as failed:
        choose_target("elsewhere:4317", None, None, LOCAL)
    assert failed.value.code is ExitCode.USAGE


def test_an_endpoint_with_an_unknown_scheme_is_refused() -> None:
    with (
        pytest.raises(CliError, match="'ftp://x' is not host:port"),
        connected(choose_target("ftp://x", "", "k", {}), 1),
    ):
        pass


@pytest.mark.parametrize(
    ("refusal", "message", "exit_code"),
    [
        ("UNAVAILABLE draining", "{} can't answer now: draining", ExitCode.FAILED),
        ("UNAUTHENTICATED unknown", "{} refuses the key (LODESTREAM_PUBLIC_KEY, LODESTREAM_SECRET_KEY): unknown", 1),
        ("DEADLINE_EXCEEDED the projection lags", "{} did not answer in time: the projection lags", ExitCode.FAILED),
        ("NOT_FOUND no such trace", "no such trace", ExitCode.FAILED),
        ("INVALID_ARGUMENT page_token: not ours", "page_token: not ours", ExitCode.USAGE),
        ("INTERNAL", "{} answered INTERNAL: no reason given", ExitCode.FAILED),
        ("UNKNOWN \x1b[2J", "{} answered UNKNOWN: ␛[2J", ExitCode.FAILED),
    ],
)
def test_every_failure_is_one_sentence(endpoint: str, refusal: str, message: str, exit_code: ExitCode) -> None:
    with connected(choose_target(endpoint, "pk", "sk", {}), 5) as gateway, pytest.raises(CliError) as failed:
        gateway.call(gateway.query.GetTrace, GetTraceRequest(trace_id=refusal))
    assert str(failed.value) == message.format(endpoint)
    assert failed.value.code == exit_code


def test_nobody_there_is_said_shortly() -> None:
    endpoint = f"127.0.0.1:{find_port()}"
    with connected(choose_target(endpoint, "", "sk", {}), 5) as gateway, pytest.raises(CliError) as failed:
        gateway.call(gateway.query.GetTrace, GetTraceRequest())
    assert str(failed.value) == f"{endpoint} can't be reached: Connection refused"


def test_a_stream_gives_what_it_has_before_it_fails(endpoint: str) -> None:
    with connected(choose_target(endpoint, "", "sk", {}), 5) as gateway:
        answers = gateway.stream(gateway.query.TailTraces, TailTracesRequest())
        assert next(answers) == TailTracesResponse()
        with pytest.raises(CliError, match="can't answer now: draining"):
            next(answers)
