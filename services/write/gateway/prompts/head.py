"""A prompt at one revision, as all layers of the cache hold it, and the answers that can be given from it. Pure."""

from collections.abc import Mapping
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
