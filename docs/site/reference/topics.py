"""The page of the log's topics: their partitions, and who reads them, from `docs/asyncapi-*.json`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.event_log.topics import TOPICS

_INTRODUCTION = """# Topics of the log

The gateway and the evaluator append; each reader keeps its own position. The machine-readable form of what follows is
AsyncAPI 3.0, in the `docs/asyncapi-*.json` of the repository.

| Topic | Partitions |
|---|---|"""


def page(docs: Path) -> str:
    """Return the page as Markdown. `docs` is the folder with the AsyncAPI documents."""
    topics = [f"| `{topic.name}` | {topic.partitions} |" for topic in TOPICS]
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(docs.glob("asyncapi-*.json"))]
    return "\n".join([_INTRODUCTION, *topics, *(line for document in documents for line in _section(document))])


def _section(document: dict[str, Any]) -> Iterator[str]:
    yield f"\n## {document['info']['title']}\n\n{document['info']['description']}\n\n| Reads | |\n|---|---|"
    for channel in document["channels"].values():
        if "kafka" in channel.get("bindings", {}):
            yield f"| `{channel['address']}` | {' '.join(channel['description'].split())} |"
