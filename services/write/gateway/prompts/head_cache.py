"""Heads of prompts in this process's memory: bounded by bytes, fresh for seconds, never older than before."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lodestream_proto.v1.prompt_cache_pb2 import PromptHead
from lodestream_proto.v1.prompts_pb2 import GetPromptResponse, PromptOutcome, PromptSelector, PromptVersion

from shared.runtime.lru_cache import LruCache
from shared.storage.prompt_heads import PRODUCTION

Key = tuple[str, str]
"""Project and prompt name."""
FRESH_SECONDS = 5.0
"""The longest a head is answered from without a look-up, should no message have announced a change."""
STALE_SECONDS = 60.0
"""The longest a head is answered from while neither Redis nor the query service can say whether it still holds."""
_MAX_VERSION_BYTES = 4 * 1024 * 1024
"""The versions of one head: reading all versions of a prompt does not make it grow."""
_HEAD_OVERHEAD_BYTES = 1_000
"""What a head takes in memory, beside what it holds."""
_REMEMBERED_FLOORS = 100_000
"""Prompts whose highest revision is known; it is forgotten of those that changed longest ago."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the labels of a prompt point to, and what those versions hold. An archived prompt has neither."""

    revision: int
    """0: the project has no prompt of this name."""
    labels: Mapping[str, int]
    latest: int
    """The highest version there is."""
    versions: dict[int, PromptVersion]
    """Versions by number, without labels and revision, which are the head's. Others may be added: they never change."""
    responses: dict[int, bytes] = field(default_factory=dict)
    """GetPromptResponses by version, encoded once."""

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory: each version twice, as a message and as a response."""
        return _HEAD_OVERHEAD_BYTES + 2 * sum(version.ByteSize() for version in self.versions.values())

    def make_room(self, nbytes: int) -> None:
        """Forget the versions that were added first, as far as another of `nbytes` needs their room."""
        sizes = {number: version.ByteSize() for number, version in self.versions.items()}
        total = nbytes + sum(sizes.values())
        for number, size in sizes.items():
            if total <= _MAX_VERSION_BYTES:
                return
            total -= size
            del self.versions[number]
            self.responses.pop(number, None)

    def number_of(self, selector: PromptSelector) -> int:
        """Return the version that a selector means; 0 when there is none."""
        match selector.WhichOneof("which"):
            case "version":
                return selector.version if selector.version <= self.latest else 0
            case "label":
                return self.labels.get(selector.label, 0)
        return self.labels.get(PRODUCTION, 0)

    def version(self, number: int) -> PromptVersion:
        """Return one of `versions` with its labels and the revision."""
        version = PromptVersion()
        version.CopyFrom(self.versions[number])
        version.labels[:] = sorted(label for label, points_to in self.labels.items() if points_to == number)
        version.revision = self.revision
        return version

    def response(self, number: int) -> bytes:
        """Return GetPrompt's response with one of `versions`, encoded."""
        response = self.responses.get(number)
        if response is None:
            response = self.responses[number] = GetPromptResponse(prompt=self.version(number)).SerializeToString()
        return response

    def outcome(self, selector: PromptSelector) -> PromptOutcome:
        """Return what came of a selector whose version, if there is one, is one of `versions`."""
        number = self.number_of(selector)
        return PromptOutcome(prompt=selector, found=self.version(number) if number else None, revision=self.revision)


def head_of(message: PromptHead) -> Head:
    """Return the head in a message of Redis or the query service."""
    if message.archived:
        return Head(message.revision, {}, 0, {})
    labels = {holder.label: holder.version for holder in message.labels}
    return Head(
        message.revision, labels, message.latest_version, {version.version: version for version in message.versions}
    )


@dataclass(slots=True)
class _CachedHead:
    """A head, since when it is known to hold, and the bytes that it takes."""

    head: Head
    since: float
    size: int


class HeadCache:
    """Heads by project and name, bounded by bytes; the least recently used go first. One per process."""

    def __init__(self, max_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.bytes = 0
        """About how many bytes all heads take."""
        self._most, self._clock = max_bytes, clock
        self._heads: OrderedDict[Key, _CachedHead] = OrderedDict()
        self._floors: LruCache[Key, int] = LruCache(_REMEMBERED_FLOORS)
        self._doubted_at = clock()

    def fresh(self, key: Key) -> Head | None:
        """Return the head if it may be answered from without a look-up."""
        cached = self._heads.get(key)
        if cached is None or cached.head.revision < self.floor(key):
            return None
        if cached.since <= self._doubted_at or self._clock() - cached.since > FRESH_SECONDS:
            return None
        self._heads.move_to_end(key)
        return cached.head

    def stale(self, key: Key) -> Head | None:
        """Return the head if it may be answered from while no newer one can be looked up."""
        cached = self._heads.get(key)
        return cached.head if cached and self._clock() - cached.since <= STALE_SECONDS else None

    def floor(self, key: Key) -> int:
        """Return the highest revision of a prompt that is known of: heads of a lower one are out of date."""
        return self._floors.peek(key) or 0

    def raise_floor(self, key: Key, revision: int) -> None:
        """Note that a prompt is at this revision at least: older heads are no longer fresh, and no longer taken."""
        if revision > (self._floors.get(key) or 0):
            self._floors[key] = revision

    def doubt_all(self) -> None:
        """Note that changes may have been missed: nothing is fresh until it was looked up again."""
        self._doubted_at = self._clock()

    def keep(self, key: Key, head: Head, *, since: float) -> Head:
        """Cache a head, with the versions that the one before it had; the older of two is dropped.

        Returns the head that is cached now. `since` is when the look-up began: what changed later may not be in it.
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
        self._heads[key] = _CachedHead(head, since, size := head.size)
        self._make_room(size)
        return head

    def grew(self, key: Key) -> None:
        """Account for a version that was added to the head."""
        if cached := self._heads.get(key):
            before, cached.size = cached.size, cached.head.size
            self._make_room(cached.size - before)

    def _make_room(self, size: int) -> None:
        self.bytes += size
        while self.bytes > self._most and self._heads:
            self._forget(next(iter(self._heads)))

    def _forget(self, key: Key) -> None:
        self.bytes -= self._heads.pop(key).size
