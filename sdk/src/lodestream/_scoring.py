"""What the client offers for scores."""

from typing import TYPE_CHECKING, Unpack

from opentelemetry import trace

from lodestream._diagnostics import warn_once
from lodestream._recording.span import Observation
from lodestream._scores import ScoreFields, Target

if TYPE_CHECKING:
    from lodestream._recording.recorder import Recorder


class ScoreMethods:
    """Scores are sent like observations: spooled, never waited for. Each method gives the score's id.

    None: it was not taken, because it makes no sense (which is told) or its trace is not kept.
    """

    _recorder: "Recorder"

    def create_score(
        self,
        *,
        name: str,
        value: float | str | bool,
        trace_id: str | None = None,
        observation_id: str | None = None,
        session_id: str | None = None,
        dataset_run_id: str | None = None,
        **fields: Unpack[ScoreFields],
    ) -> str | None:
        """Judge a trace, an observation in it, a session or an experiment run, now or long after."""
        target = Target(
            trace_id=trace_id or "",
            observation_id=observation_id or "",
            session_id=session_id or "",
            run_id=dataset_run_id or "",
        )
        return self._recorder.score(target, name, value, fields)

    def score_current_span(self, *, name: str, value: float | str | bool, **fields: Unpack[ScoreFields]) -> str | None:
        """Judge the current observation."""
        target = _current(name)
        return self._recorder.score(target, name, value, fields) if target else None

    def score_current_trace(self, *, name: str, value: float | str | bool, **fields: Unpack[ScoreFields]) -> str | None:
        """Judge the trace of the current observation."""
        target = _current(name)
        return self._recorder.score(Target(trace_id=target.trace_id), name, value, fields) if target else None


def _current(name: str) -> Target | None:
    current = trace.get_current_span()
    ids = current.get_span_context()
    if not ids.is_valid:
        warn_once(f"score {name}", f"the score {name!r} was not taken: there is no current observation")
        return None
    if not (current._kept if isinstance(current, Observation) else ids.trace_flags.sampled):
        return None
    return Target(trace_id=f"{ids.trace_id:032x}", observation_id=f"{ids.span_id:016x}")
