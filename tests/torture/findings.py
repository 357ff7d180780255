"""What the checker can find, and how it tells people."""

import enum
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

_SHOWN = 12


class Kind(enum.StrEnum):
    """Each breaks a promise."""

    LOST = "lost"
    """Acknowledged (or promised by the SDK), and not where it has to be."""
    DUPLICATED = "duplicated"
    """There, or counted, more often than it was sent."""
    INVENTED = "invented"
    """There, and nobody sent it; or it was refused."""
    ALTERED = "altered"
    """There, and it says something else."""
    OUT_OF_PROMISE = "out of promise"
    """Another promise: a position, an order, a summary, a fence, a process that died by itself."""


_MEANINGS = {
    Kind.LOST: "acknowledged, or in the SDK's spool, and not where it has to be",
    Kind.DUPLICATED: "there, or counted, more often than it was sent",
    Kind.INVENTED: "there, and nobody sent it, or it was refused for good",
    Kind.ALTERED: "there, and it says something else",
    Kind.OUT_OF_PROMISE: "another promise broken: a position, an order, a summary, a fence, a process that died",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise, and where to look."""

    kind: Kind
    what: str
    where: str


@dataclass(slots=True)
class Report:
    """A run judged."""

    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """Of what was looked at; `unsure_stored` and `unsure_absent` are the tellings whose fate nobody was told."""

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return not self.findings

    @property
    def kinds(self) -> set[Kind]:
        """What sorts of findings there are."""
        return {finding.kind for finding in self.findings}

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "clean": self.clean,
            "counts": self.counts,
            "findings": [
                {"kind": finding.kind.value, "what": finding.what, "where": finding.where} for finding in self.findings
            ],
        }

    def lines(self) -> Iterator[str]:
        """For people: what was looked at, then what was found of each kind."""
        counts = self.counts
        yield "looked at   " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
        by_kind = Counter(finding.kind for finding in self.findings)
        yield f"{'verdict':<16}{'found':>6}   meaning"
        for kind, meaning in _MEANINGS.items():
            yield f"{kind.value:<16}{by_kind[kind]:>6}   {meaning}"
            yield from _samples([finding for finding in self.findings if finding.kind is kind])
        fates = [counts.get(f"unsure_{fate}", 0) for fate in ("stored", "absent")]
        meaning = f"nobody was told what became of it; {fates[0]} are stored, {fates[1]} are not, and either is right"
        yield f"{'unsure':<16}{sum(fates):>6}   {meaning}"


def report_from(document: dict[str, Any]) -> Report:
    """The report again, from its JSON."""
    findings = [Finding(Kind(each["kind"]), each["what"], each["where"]) for each in document["findings"]]
    return Report(findings, document["counts"])


def _samples(findings: Sequence[Finding]) -> Iterator[str]:
    for what, count in Counter(finding.what for finding in findings).most_common():
        yield f"    {what}: {count}"
        places = [finding.where for finding in findings if finding.what == what]
        yield from (f"        {place}" for place in places[:_SHOWN])
        if count > _SHOWN:
            yield f"        … and {count - _SHOWN} more"
