"""What a prompt's head answers: which version a selector means, and that version as it is shown. Pure."""

from lodestream_proto.v1.prompt_cache_pb2 import PromptHead
from lodestream_proto.v1.prompts_pb2 import PromptSelector, PromptVersion

PRODUCTION = "production"
"""The label meant by a selector that names neither label nor version."""
LATEST = "latest"


def version_meant(head: PromptHead, selector: PromptSelector) -> int | None:
    """The number of the version that a selector means; None when the project has none such."""
    if head.revision == 0 or head.archived:
        return None
    if selector.HasField("version"):
        return selector.version if 0 < selector.version <= head.latest_version else None
    label = selector.label if selector.HasField("label") else PRODUCTION
    return next((holder.version for holder in head.labels if holder.label == label), None)


def content_in(head: PromptHead, version: int) -> PromptVersion | None:
    """A version that the head carries; None: it is to be had elsewhere."""
    return next((each for each in head.versions if each.version == version), None)


def shown(version: PromptVersion, head: PromptHead) -> PromptVersion:
    """The version with the labels that point to it, and the prompt's revision."""
    whole = PromptVersion()
    whole.CopyFrom(version)
    del whole.labels[:]
    whole.labels.extend(sorted(holder.label for holder in head.labels if holder.version == version.version))
    whole.revision = head.revision
    return whole
