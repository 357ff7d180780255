"""Which calls came, in order: tests ask how often a model was asked the same."""

from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Any

_KEPT = 100_000


@dataclass(slots=True)
class Call:
    """One request."""

    number: int
    """From 1."""
    path: str
    model: str
    key: str
    """Idempotency-Key; empty without one."""
    attempt: int
    """From 0: how often it was tried before."""
    stream: bool = False
    status: int | None = None
    """None while it is under way, and of a stream that nobody heard to its end."""


class Calls:
    """Since the start, or since they were forgotten. Of very many calls, models and keys the oldest are let go of."""

    def __init__(self) -> None:
        self._total = 0
        self._models: Counter[str] = Counter()
        self._keys: Counter[str] = Counter()
        self._calls: deque[Call] = deque(maxlen=_KEPT)

    def begin(self, path: str, model: str, *, key: str, retries: int, stream: bool) -> Call:
        """`retries` is what the client says; a key that came before says it better."""
        call = Call(
            number=self._total + 1,
            path=path,
            model=model,
            key=key,
            attempt=self._keys[key] if key else retries,
            stream=stream,
        )
        self._total += 1
        _count(self._models, model)
        if key:
            _count(self._keys, key)
        self._calls.append(call)
        return call

    def told(self) -> dict[str, Any]:
        """All of it."""
        return {
            "total": self._total,
            "by_model": dict(self._models),
            "by_key": dict(self._keys),
            "calls": [asdict(call) for call in self._calls],
        }

    def forget(self) -> None:
        """As if none had come. Calls under way are not counted any more."""
        self._total = 0
        self._models.clear()
        self._keys.clear()
        self._calls.clear()


def _count(counts: "Counter[str]", name: str) -> None:
    if name not in counts and len(counts) >= _KEPT:
        del counts[next(iter(counts))]
    counts[name] += 1
