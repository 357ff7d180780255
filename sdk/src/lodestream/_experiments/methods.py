"""What the client offers for experiments."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack, cast

if TYPE_CHECKING:
    from lodestream._client import Lodestream
    from lodestream._delivery.channel import RpcChannel
    from lodestream._experiments.plan import ExperimentOptions
    from lodestream._results import ExperimentResult


class ExperimentMethods:
    """Experiments are run here, in this process, and recorded as they go."""

    _channel: "RpcChannel"

    def run_experiment(
        self, *, name: str, data: Any, task: Callable[..., Any], **options: "Unpack[ExperimentOptions]"
    ) -> "ExperimentResult":
        """Run the task on each item, have it judged, and record all of it. Waits until that is done.

        `data` is a Dataset, or a list of dicts or objects with `input`, `expected_output`, `metadata`. The task and the
        evaluators are given what they ask for by the names of their parameters; coroutine functions run in a loop of
        the experiment's own, the others in threads. A task that raises makes a failed item, and the run goes on. With a
        `run_name` that was begun before, only what is missing is done; a run that is complete is returned as it is.
        After Ctrl-C no item is begun, nor while the run is paused at the server. See ExperimentOptions for the rest.
        Raises ExperimentError before anything is run, ExperimentStoppedError when somebody ended the run meanwhile,
        DatasetError when items can't be had, and the RegressionError of a run evaluator when all is recorded.
        """
        from lodestream._experiments.runner import ExperimentRunner, run_apart

        running = ExperimentRunner(cast("Lodestream", self), name, data, task, options)
        return run_apart(running.result, stop=running.stop)

    async def run_experiment_async(
        self, *, name: str, data: Any, task: Callable[..., Any], **options: "Unpack[ExperimentOptions]"
    ) -> "ExperimentResult":
        """The same in the running loop. Cancelled, it leaves what is under way, and may be gone on with."""
        from lodestream._experiments.runner import ExperimentRunner

        return await ExperimentRunner(cast("Lodestream", self), name, data, task, options).result()

    @property
    def _delivers(self) -> bool:
        """Whether there is a server to ask, and to tell."""
        raise NotImplementedError
