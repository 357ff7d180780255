"""What a workload meant to do and what it learnt, each line on disk before the next step is taken."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

Verdict = Literal["acked", "spooled", "refused", "unknown"]
"""acked: the server has it. spooled: the SDK promised to deliver it. refused: for good. unknown: nobody can tell."""


class Claim(NamedTuple):
    """One event about a score, a prompt, a dataset or a run: what the log has to say of it once it is acknowledged."""

    topic: str
    kind: str
    """The payload's name in lodestream_proto.v1.Event."""
    event_id: str
    """Empty where the gateway makes it: then the content identifies the event."""
    content: dict[str, Any]
    """As contract.read_message gives it."""
    valid: bool = True
    partial: bool = False
    """Whether the event may say more than `content`: the gateway resolves what a request left open."""


class Told(NamedTuple):
    """One telling of a span: ids in hex, a digest of what was told, and whether the server is to take it."""

    trace: str
    span: str
    digest: str
    """"bytes:" and the SHA-256 of the OTLP span, or "said:" and that of what wire.said_digest covers."""
    valid: bool = True


@dataclass(slots=True)
class Sent:
    """One request, whole: what it told and what became of it."""

    number: str
    way: str
    project: str
    told: Sequence[Told]
    attempts: int = 1
    verdict: Verdict = "unknown"
    position: str = ""
    code: str = ""
    rejected: int = 0
    began: float = 0.0
    """Of the last attempt, seconds on the machine's monotonic clock."""
    ended: float = float("inf")
    verdicts: list[Verdict] = field(default_factory=list)
    claims: Sequence[Claim] = ()
    """Of a request about anything but spans, which tells no spans."""
    answer: Mapping[str, Any] = field(default_factory=dict)
    """What the service said of it: a version, a revision, or that the log refused it and why."""


class Objection(NamedTuple):
    """Something that a workload met and that no workload may ever meet."""

    what: str
    where: str


class Ledger:
    """Appended to by one workload, one life a file."""

    def __init__(self, path: Path, *, way: str, project: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._way, self._project, self._sends = way, project, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def intend(self, told: Sequence[Told], *, project: str | None = None, way: str | None = None) -> int:
        """Before a request is sent for the first time; returns its number."""
        self._sends += 1
        self._write(
            do="intend", send=self._sends, way=way or self._way, project=self._project if project is None else project,
            told=told,
        )  # fmt: skip
        return self._sends

    def claim(self, claims: Sequence[Claim], *, project: str, way: str | None = None) -> int:
        """The same of a request about anything but spans."""
        self._sends += 1
        self._write(do="intend", send=self._sends, way=way or self._way, project=project, told=[], claims=claims)
        return self._sends

    def object(self, what: str, where: str) -> None:
        """Something was met that no workload may ever meet."""
        self._write(do="object", what=what, where=where)

    def retry(self, send: int) -> None:
        """Before it is sent again."""
        self._write(do="retry", send=send)

    def learn(
        self, send: int, verdict: Verdict, *, position: str = "", code: str = "", rejected: int = 0,
        answer: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """After the answer, or after there was none."""
        more = {"answer": answer} if answer else {}
        self._write(do="learn", send=send, verdict=verdict, position=position, code=code, rejected=rejected, **more)

    def _write(self, **line: Any) -> None:
        os.write(self._file, json.dumps({"at": time.monotonic(), **line}, separators=(",", ":")).encode() + b"\n")
        os.fsync(self._file)


def read_ledgers(folder: Path) -> list[Sent]:
    """All that any workload did. What a kill tore off at the end of a file was not done: it precedes the deed."""
    return [sent for path in sorted(folder.glob("*.ledger")) for sent in _read(path)]


def read_objections(folder: Path) -> list[Objection]:
    """What any workload met that none may ever meet."""
    entries = (entry for path in sorted(folder.glob("*.ledger")) for entry in _entries(path))
    return [Objection(entry["what"], entry["where"]) for entry in entries if entry["do"] == "object"]


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    yield from map(json.loads, path.read_bytes().split(b"\n")[:-1])


def _read(path: Path) -> Iterator[Sent]:
    sends: dict[int, Sent] = {}
    for entry in _entries(path):
        if entry["do"] == "object":
            continue
        number = entry["send"]
        if entry["do"] == "intend":
            told, claims = [Told(*each) for each in entry["told"]], [Claim(*each) for each in entry.get("claims", ())]
            sends[number] = Sent(
                f"{path.stem}#{number}", entry["way"], entry["project"], told, began=entry["at"], claims=claims
            )
            continue
        sent = sends[number]
        if entry["do"] == "retry":
            sent.attempts += 1
            sent.began, sent.ended = entry["at"], float("inf")
            continue
        sent.verdicts.append(entry["verdict"])
        sent.verdict = _strongest(sent.verdicts)
        sent.ended, sent.rejected = entry["at"], entry["rejected"]
        sent.position, sent.code = entry["position"], entry["code"]
        sent.answer = entry.get("answer", {})
    yield from sends.values()


def _strongest(verdicts: Sequence[Verdict]) -> Verdict:
    """Refused only if every attempt was: one that nobody answered may have been taken."""
    for verdict in ("acked", "spooled", "unknown"):
        if verdict in verdicts:
            return verdict
    return "refused"
