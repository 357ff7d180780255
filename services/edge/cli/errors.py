"""Errors of the command line: one sentence for people and an exit code for scripts."""

import enum

import grpc

from services.edge.cli.render.text import escape_control


class ExitCode(enum.IntEnum):
    """The exit code of a command; typer ends a wrong command line with 2 as well."""

    OK = 0
    FAILED = 1
    USAGE = 2


class CliError(Exception):
    """The command can't do what was asked. The message is for the user."""

    def __init__(
        self, message: str, code: ExitCode = ExitCode.FAILED, *, not_found: bool = False, transient: bool = False
    ) -> None:
        """One sentence; what it quotes is made harmless here."""
        super().__init__(escape_control(message))
        self.code = code
        self.not_found = not_found
        """There is nothing of that name."""
        self.transient = transient
        """Asked again later, it may be answered."""


def rpc_error(error: grpc.RpcError, endpoint: str) -> CliError:
    """The error that a failed call is reported as."""
    if not isinstance(error, grpc.Call):
        return CliError(f"the call to {endpoint} failed: {error}")
    code, details = error.code(), error.details() or "no reason given"
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return CliError(f"{endpoint} {_unavailable(details)}", transient=True)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return CliError(f"{endpoint} can't answer now: {details}", transient=True)
        case grpc.StatusCode.UNAUTHENTICATED:
            return CliError(f"{endpoint} refuses the key (LODESTREAM_PUBLIC_KEY, LODESTREAM_SECRET_KEY): {details}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return CliError(f"{endpoint} did not answer in time: {details}")
        case grpc.StatusCode.NOT_FOUND:
            return CliError(details, not_found=True)
        case grpc.StatusCode.ALREADY_EXISTS | grpc.StatusCode.ABORTED | grpc.StatusCode.FAILED_PRECONDITION:
            return CliError(details)
        case grpc.StatusCode.INVALID_ARGUMENT:
            return CliError(details, ExitCode.USAGE)
        case _:
            return CliError(f"{endpoint} answered {code.name}: {details}")


def _unavailable(details: str) -> str:
    """The cause of a failed connection is at the end of gRPC's message; a server's message is kept whole."""
    if details.startswith(("failed to connect", "errors resolving")):
        return f"can't be reached: {details.rpartition(': ')[2].rstrip(']')}"
    return f"can't answer now: {details}"
