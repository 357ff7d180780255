"""Lodestream's Python SDK: trace LLM applications; nothing is lost, nothing blocks, OpenTelemetry nests both ways.

from lodestream import observe

@observe
def answer(question: str) -> str: ...
"""

from lodestream._client import Lodestream, TraceContext, get_client
from lodestream._context import propagate_attributes
from lodestream._evaluation import Evaluation, InvalidEvaluationError
from lodestream._fields import Level, ObservationType
from lodestream._observe import observe
from lodestream._prompts.errors import (
    PromptError,
    PromptNotFoundError,
    PromptRefusedError,
    PromptTypeError,
    PromptUnavailableError,
)
from lodestream._prompts.prompt import ChatPrompt, TextPrompt
from lodestream._receipt import ConnectionCheck, FlushReceipt
from lodestream._recorder import CurrentObservation
from lodestream._span import Observation
from lodestream._version import __version__

__all__ = [
    "ChatPrompt",
    "ConnectionCheck",
    "CurrentObservation",
    "Evaluation",
    "FlushReceipt",
    "InvalidEvaluationError",
    "Level",
    "Lodestream",
    "Observation",
    "ObservationType",
    "PromptError",
    "PromptNotFoundError",
    "PromptRefusedError",
    "PromptTypeError",
    "PromptUnavailableError",
    "TextPrompt",
    "TraceContext",
    "__version__",
    "get_client",
    "observe",
    "propagate_attributes",
]
