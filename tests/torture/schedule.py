"""What the nemesis will do, and when: a pure function of the seed, the length and what there is to strike."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

ZOMBIE_SECONDS = 8.0
"""Longer than a projection's session with its group (SHORT_SESSION): others have its partitions when it wakes."""


@dataclass(frozen=True, slots=True, order=True)
class Strike:
    """At so many seconds, this happens to that, for so long."""

    at: float
    kind: str
    target: str
    lasts: float


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: str
    targets: tuple[str, ...]
    shortest: float
    longest: float
    weight: int


_PROJECTIONS = ("traces-0", "traces-1", "traces-2")
_WORKERS = ("evaluator-0", "evaluator-1")
_OTHERS = ("scores-0", "prompts-0", "experiments-0")
"""Of each only one runs, so that they are struck less often: what they write waits for them."""
_CATALOGUE = (
    _Entry("kill", ("gateway", *_PROJECTIONS), 0.2, 3.0, 8),
    _Entry("kill", ("kafka", "postgres", "valkey"), 0.5, 5.0, 4),
    _Entry("kill", (*_OTHERS, "query"), 0.2, 3.0, 6),
    _Entry("kill", _WORKERS, 0.1, 5.0, 6),
    _Entry("kill", ("sdk", "otlp", "record", "scores", "prompts", "experiments"), 0.1, 1.0, 4),
    _Entry("restart", ("gateway", *_PROJECTIONS, *_OTHERS, *_WORKERS, "query", "postgres", "kafka"), 0.0, 0.0, 4),
    _Entry("freeze", ("gateway", *_PROJECTIONS), 1.0, 6.0, 3),
    _Entry("freeze", (*_OTHERS, *_WORKERS, "query"), 1.0, 6.0, 4),
    _Entry("freeze", _PROJECTIONS, ZOMBIE_SECONDS, ZOMBIE_SECONDS + 6.0, 3),
    _Entry("freeze", ("kafka", "postgres", "valkey"), 1.0, 8.0, 5),
    _Entry("flush", ("valkey",), 0.0, 0.0, 3),
    _Entry("squeeze", ("gateway", "sdk", "otlp"), 1.0, 4.0, 3),
    _Entry("set-ahead", ("gateway", "sdk", *_PROJECTIONS), 1.0, 6.0, 2),
    _Entry("set-back", ("gateway", "sdk", *_PROJECTIONS), 1.0, 6.0, 2),
    _Entry("cut", ("client", "log", "rows"), 0.2, 4.0, 5),
    _Entry("half-open", ("client", "log", "rows"), 1.0, 8.0, 4),
    _Entry("delay", ("client", "log", "rows"), 2.0, 6.0, 3),
    _Entry("limit", ("client", "log", "rows"), 2.0, 6.0, 3),
    _Entry("drop", ("client", "log", "rows"), 0.0, 0.0, 4),
    _Entry("terminate", ("sessions",), 0.0, 0.0, 5),
    _Entry("lose-commit", ("rows",), 1.0, 3.0, 4),
    _Entry("lose-commit-reply", ("rows",), 1.0, 3.0, 6),
    _Entry("fill", ("spool",), 1.0, 4.0, 3),
)


def plan(seed: str, seconds: float, targets: Collection[str]) -> Sequence[Strike]:
    """Strikes of several targets may overlap, two of one never do; all have ended after `seconds`."""
    rng, free_at, strikes, at = random.Random(seed), dict.fromkeys(targets, 0.0), list[Strike](), 1.0
    while at < seconds:
        entry = rng.choices(_CATALOGUE, [each.weight for each in _CATALOGUE])[0]
        target, lasts = rng.choice(entry.targets), round(rng.uniform(entry.shortest, entry.longest), 2)
        if free_at.get(target, seconds) <= at and at + lasts <= seconds:
            strikes.append(Strike(round(at, 2), entry.kind, target, lasts))
            free_at[target] = at + lasts + 1.0
            at += rng.uniform(0.2, 2.5)
        else:
            at += 0.1
    return strikes
