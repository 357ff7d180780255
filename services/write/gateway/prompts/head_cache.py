"""Heads of prompts in this process's memory: bounded by bytes, fresh for seconds, never older than before."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lodestream_proto.v1.prompt_cache_pb2 import PromptHead
from lodestream_proto.v1.prompts_pb2 import GetPromptResponse, PromptOutcome, PromptSelector, PromptVersion

from shared.storage.prompt_heads import PRODUCTION

_MOST_BYTES = 4 * 1024 * 1024
"""Of the versions of one head: who reads all versions of a prompt does not make it grow."""
_OVERHEAD = 1_000
"""Bytes of a head in memory, beside what it holds."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the labels of a prompt point, and what the versions there hold. An archived one has neither."""

    revision: int
    """0: the project has no prompt of this name."""
    labels: Mapping[str, int]
    latest: int
    """The highest version there is."""
    versions: dict[int, PromptVersion]
    """By number, without labels and revision, which are the head's. Others may be added: they never change."""
    answers: dict[int, bytes] = field(default_factory=dict)
    """GetPromptResponse by version, encoded once."""

    @property
    def size(self) -> int:
        """Bytes in memory, about: each version twice, as a message and as an answer."""
        return _OVERHEAD + 2 * sum(version.ByteSize() for version in self.versions.values())

    def make_room(self, nbytes: int) -> None:
        """Forget the versions that were added first when they and another of `nbytes` are more than a head holds."""
        sizes = {number: version.ByteSize() for number, version in self.versions.items()}
        total = nbytes + sum(sizes.values())
        for number, size in sizes.items():
            if total <= _MOST_BYTES:
                return
            total -= size
            del self.versions[number]
            self.answers.pop(number, None)

    def number_of(self, selector: PromptSelector) -> int:
        """The version that is meant; 0: there is none."""
        match selector.WhichOneof("which"):
            case "version":
                return selector.version if selector.version <= self.latest else 0
            case "label":
                return self.labels.get(selector.label, 0)
        return self.labels.get(PRODUCTION, 0)

    def version(self, number: int) -> PromptVersion:
        """One of `versions` with its labels and the revision."""
        found = PromptVersion()
        found.CopyFrom(self.versions[number])
        found.labels[:] = sorted(label for label, points_to in self.labels.items() if points_to == number)
        found.revision = self.revision
        return found

    def answer(self, number: int) -> bytes:
        """GetPrompt's answer: one of `versions`, encoded."""
        found = self.answers.get(number)
        if found is None:
            found = self.answers[number] = GetPromptResponse(prompt=self.version(number)).SerializeToString()
        return found

    def outcome(self, selector: PromptSelector) -> PromptOutcome:
        """What came of a selector whose version, if there is one, is one of `versions`."""
        number = self.number_of(selector)
        return PromptOutcome(prompt=selector, found=self.version(number) if number else None, revision=self.revision)


def read_head(told: PromptHead) -> Head:
    """The head that a lower layer tells of."""
    if told.archived:
        return Head(told.revision, {}, 0, {})
    labels = {holder.label: holder.version for holder in told.labels}
    return Head(told.revision, labels, told.latest_version, {version.version: version for version in told.versions})


Key = tuple[str, str]
"""Project and prompt name."""
FRESH_SECONDS = 5.0
"""The longest a head is answered from without a look, should no message have told of a change."""
STALE_SECONDS = 60.0
"""The longest a head is answered from while neither Redis nor the query service can say whether it still holds."""
_FLOORS = 100_000
"""Prompts of which the highest revision is known; of the least recently told ones it is forgotten."""


@dataclass(slots=True)
class Remembered:
    """A head, since when it is known to hold, and what it takes."""

    head: Head
    since: float
    size: int


class Memory:
    """Heads by project and name; the least recently used go when there is no room."""

    def __init__(self, max_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.bytes = 0
        """Of all heads, about."""
        self._most, self._clock = max_bytes, clock
        self._heads: OrderedDict[Key, Remembered] = OrderedDict()
        self._floors: OrderedDict[Key, int] = OrderedDict()
        self._doubted_at = clock()

    def fresh(self, key: Key) -> Head | None:
        """The head, if it may be answered from as it is."""
        found = self._heads.get(key)
        if found is None or found.head.revision < self._floors.get(key, 0):
            return None
        if found.since <= self._doubted_at or self._clock() - found.since > FRESH_SECONDS:
            return None
        self._heads.move_to_end(key)
        return found.head

    def stale(self, key: Key) -> Head | None:
        """The head, if it may be answered from while nobody can tell a newer one."""
        found = self._heads.get(key)
        return found.head if found and self._clock() - found.since <= STALE_SECONDS else None

    def floor(self, key: Key) -> int:
        """The highest revision that was seen or told; what is below is not looked at."""
        return self._floors.get(key, 0)

    def raise_floor(self, key: Key, revision: int) -> None:
        """A revision was told of: what is older is no longer fresh, and no longer taken."""
        if revision > self._floors.get(key, 0):
            self._floors[key] = revision
            if len(self._floors) > _FLOORS:
                self._floors.popitem(last=False)
        if key in self._floors:
            self._floors.move_to_end(key)

    def doubt_all(self) -> None:
        """Changes may have been missed: nothing is fresh until it was looked up again."""
        self._doubted_at = self._clock()

    def keep(self, key: Key, head: Head, *, since: float) -> Head:
        """What is remembered now: this head, with what the one before it knew of versions; the older of two is dropped.

        `since` is when the look-up began: what changed later may not be in it.
        """
        before = self._heads.get(key)
        if before and before.head.revision >= head.revision:
            before.since = max(before.since, since) if before.head.revision == head.revision else before.since
            self._heads.move_to_end(key)
            return before.head
        if before:
            self._forget(key)
            for number, version in before.head.versions.items():
                head.versions.setdefault(number, version)
        self.raise_floor(key, head.revision)
        self._heads[key] = Remembered(head, since, size := head.size)
        self._make_room(size)
        return head

    def grew(self, key: Key) -> None:
        """A version was added to the head."""
        if found := self._heads.get(key):
            before, found.size = found.size, found.head.size
            self._make_room(found.size - before)

    def _make_room(self, size: int) -> None:
        self.bytes += size
        while self.bytes > self._most and self._heads:
            self._forget(next(iter(self._heads)))

    def _forget(self, key: Key) -> None:
        self.bytes -= self._heads.pop(key).size
