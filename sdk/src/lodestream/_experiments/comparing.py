"""A run beside another, by the server."""

from collections.abc import Mapping
from typing import Any

from lodestream_proto.v1 import experiments_pb2 as pb

from lodestream._experiments.errors import ExperimentRefusedError, ExperimentUnavailableError
from lodestream._experiments.requests import call_experiment_service, find_run, wait_for
from lodestream._experiments.runs import run_id_of
from lodestream._results import ExperimentResult

_SECONDS = 60.0


def compare(result: ExperimentResult, baseline: str, options: Mapping[str, Any]) -> pb.CompareExperimentsResponse:
    """The server's answer, once it has all that was delivered. The baseline is a run's name, over the same data, or id.

    Raises ExperimentError.
    """
    client = result.run.client
    channel = client._channel
    if not result.recorded:
        raise ExperimentUnavailableError("the run is in this process only; the server compares those it has")
    named = run_id_of(result.run.request.dataset_id, baseline)
    baseline = named if find_run(channel, named) is not None else baseline
    try:
        request = pb.CompareExperimentsRequest(
            baseline_run_id=baseline, run_ids=[result.run_id], wait_for=wait_for(client.position), **options
        )
    except (TypeError, ValueError) as error:
        raise ExperimentRefusedError(str(error)) from None
    return call_experiment_service(
        channel, "CompareExperiments", request, pb.CompareExperimentsResponse, seconds=_SECONDS
    )
