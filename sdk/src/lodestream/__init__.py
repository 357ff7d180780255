"""Lodestream's Python SDK: trace LLM applications; nothing is lost, nothing blocks, OpenTelemetry nests both ways.

from lodestream import observe

@observe
def answer(question: str) -> str: ...
"""

from typing import TYPE_CHECKING, Any

from lodestream_evals.prompt import ChatPrompt, TextPrompt

from lodestream._client import Lodestream, TraceContext, get_client
from lodestream._datasets.errors import (
    DatasetError,
    DatasetItemsRefusedError,
    DatasetNotFoundError,
    DatasetRefusedError,
    DatasetUnavailableError,
)
from lodestream._experiments.errors import (
    ExperimentError,
    ExperimentNotFoundError,
    ExperimentRefusedError,
    ExperimentStoppedError,
    ExperimentUnavailableError,
    RegressionError,
)
from lodestream._prompts.errors import (
    PromptError,
    PromptNotFoundError,
    PromptRefusedError,
    PromptTypeError,
    PromptUnavailableError,
)
from lodestream._receipts import ConnectionCheck, FlushReceipt
from lodestream._recording.attributes import Level, ObservationType
from lodestream._recording.clients import CurrentClient
from lodestream._recording.observe import observe
from lodestream._recording.propagation import propagate_attributes
from lodestream._recording.span import CurrentObservation, Observation
from lodestream._version import __version__

if TYPE_CHECKING:
    from lodestream_evals.evaluation import Evaluation, InvalidEvaluationError

    from lodestream._datasets.dataset import Dataset, DatasetItem, RecordedItems, RefusedItem
    from lodestream._instrument import instrument, uninstrument
    from lodestream._opentelemetry.span_processor import LodestreamSpanProcessor, is_llm_span
    from lodestream._results import ExperimentResult, ItemResult

__all__ = [
    "ChatPrompt",
    "ConnectionCheck",
    "CurrentClient",
    "CurrentObservation",
    "Dataset",
    "DatasetError",
    "DatasetItem",
    "DatasetItemsRefusedError",
    "DatasetNotFoundError",
    "DatasetRefusedError",
    "DatasetUnavailableError",
    "Evaluation",
    "ExperimentError",
    "ExperimentNotFoundError",
    "ExperimentRefusedError",
    "ExperimentResult",
    "ExperimentStoppedError",
    "ExperimentUnavailableError",
    "FlushReceipt",
    "InvalidEvaluationError",
    "ItemResult",
    "Level",
    "Lodestream",
    "LodestreamSpanProcessor",
    "Observation",
    "ObservationType",
    "PromptError",
    "PromptNotFoundError",
    "PromptRefusedError",
    "PromptTypeError",
    "PromptUnavailableError",
    "RecordedItems",
    "RefusedItem",
    "RegressionError",
    "TextPrompt",
    "TraceContext",
    "__version__",
    "get_client",
    "instrument",
    "is_llm_span",
    "observe",
    "propagate_attributes",
    "uninstrument",
]

_LATE = {
    "Dataset": "lodestream._datasets.dataset",
    "DatasetItem": "lodestream._datasets.dataset",
    "Evaluation": "lodestream_evals.evaluation",
    "ExperimentResult": "lodestream._results",
    "InvalidEvaluationError": "lodestream_evals.evaluation",
    "ItemResult": "lodestream._results",
    "LodestreamSpanProcessor": "lodestream._opentelemetry.span_processor",
    "RecordedItems": "lodestream._datasets.dataset",
    "RefusedItem": "lodestream._datasets.dataset",
    "instrument": "lodestream._instrument",
    "is_llm_span": "lodestream._opentelemetry.span_processor",
    "uninstrument": "lodestream._instrument",
}
"""Names that programs which only trace don't need: their modules are imported when they are."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LATE[name]), name)
    return value
