"""What an experiment needs of the client that runs it."""

from typing import Any, Protocol

from lodestream._delivery.channel import RpcChannel
from lodestream._delivery.pipeline import Pipeline
from lodestream._receipts import FlushReceipt
from lodestream._recording.recorder import Recorder


class Session(Protocol):
    """A client. What is behind its private attributes changes with a fork, so it is not kept beside it."""

    _recorder: Recorder
    _channel: RpcChannel
    _pipeline: Pipeline

    @property
    def _delivers(self) -> bool: ...
    @property
    def receipt(self) -> FlushReceipt: ...
    @property
    def position(self) -> str: ...
    def flush(self, timeout: float = 10.0) -> FlushReceipt: ...
    def get_prompt(self, name: str, *, version: int | None = None, label: str | None = None) -> Any: ...
