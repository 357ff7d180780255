"""A run beside another, by the server."""

from collections.abc import Mapping
from typing import Any

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream._experiments.asking import asked, waiting
from lodestream._experiments.errors import ExperimentRefusedError, ExperimentUnavailableError
from lodestream._experiments.result import ExperimentResult

_SECONDS = 60.0


def compare(
    result: ExperimentResult, baseline_run_id: str, options: Mapping[str, Any]
) -> pb.CompareExperimentsResponse:
    """The server's answer, once it has all that was delivered.

    Raises ExperimentError.
    """
    client = result.run.client
    if not result.recorded:
        raise ExperimentUnavailableError("the run is in this process only; the server compares those it has")
    try:
        request = pb.CompareExperimentsRequest(
            baseline_run_id=baseline_run_id, run_ids=[result.run_id], wait_for=waiting(client.position), **options
        )
    except (TypeError, ValueError) as error:
        raise ExperimentRefusedError(str(error)) from None
    line = client._line  # noqa: SLF001 - of the same package
    return asked(line, "CompareExperiments", request, pb.CompareExperimentsResponse, seconds=_SECONDS)
