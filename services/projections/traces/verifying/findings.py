"""What verifying found: rows and checksums by table, partition and day, and the first rows that differ."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

NAMED = 10
"""Rows named of each sort of difference; all are counted."""
_Where = tuple[str, int, date]


@dataclass(slots=True)
class Group:
    """The rows of a table that come from one partition (-1: several) and are of one day, in the log and stored."""

    log_rows: int = 0
    stored_rows: int = 0
    log_checksum: int = 0
    stored_checksum: int = 0
    differences: int = 0

    @property
    def same(self) -> bool:
        """No difference was found, and the sums agree."""
        ours, theirs = (self.log_rows, self.log_checksum), (self.stored_rows, self.stored_checksum)
        return not self.differences and ours == theirs


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is "missing" in the table, "extra" there, or "altered", and then in which columns."""

    table: str
    how: str
    key: Mapping[str, Any]
    columns: Sequence[str] = ()


@dataclass(slots=True)
class Findings:
    """Added to while both sides are read."""

    groups: dict[_Where, Group] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    rows: list[Difference] = field(default_factory=list)
    set_aside: int = 0
    """Spans and records in dead letters, which are in no table."""
    expired: int = 0
    """Rows that are not looked for: their days, or their records' days, were removed."""

    @property
    def same(self) -> bool:
        """The read model is what the log tells."""
        return all(group.same for group in self.groups.values())

    def in_log(self, where: _Where, checksum: bytes) -> None:
        """The log tells of a row."""
        group = self._group(where)
        group.log_rows += 1
        group.log_checksum ^= int.from_bytes(checksum, "big")

    def is_stored(self, where: _Where, checksum: bytes) -> None:
        """A table has a row."""
        group = self._group(where)
        group.stored_rows += 1
        group.stored_checksum ^= int.from_bytes(checksum, "big")

    def differs(self, where: _Where, how: str, key: Mapping[str, Any], columns: Sequence[str] = ()) -> bool:
        """A row differs; False when enough of this sort have been named."""
        table = where[0]
        self._group(where).differences += 1
        count = self.counts[table, how] = self.counts.get((table, how), 0) + 1
        if count <= NAMED:
            self.rows.append(Difference(table, how, key, columns))
        return count <= NAMED

    def may_name(self, table: str, how: str) -> bool:
        """Whether the next difference of this sort will be named."""
        return self.counts.get((table, how), 0) < NAMED

    def report(self, positions: Mapping[int, int]) -> dict[str, Any]:
        """All of it, for the event."""
        tables: dict[str, dict[str, int]] = {}
        for (table, _, _), group in self.groups.items():
            of = tables.setdefault(table, {"log": 0, "stored": 0, "groups": 0, "differing": 0})
            of["log"] += group.log_rows
            of["stored"] += group.stored_rows
            of["groups"] += 1
            of["differing"] += not group.same
        return {
            "same": self.same,
            "positions": {str(partition): offset for partition, offset in sorted(positions.items())},
            "tables": tables,
            "differing": [shown for shown in self._shown() if not shown["same"]],
            "groups": list(self._shown()),
            "counts": {f"{table} {how}": count for (table, how), count in self.counts.items()},
            "rows": [asdict(row) for row in self.rows],
            "set_aside": self.set_aside,
            "expired": self.expired,
            "notes": self._notes(),
        }

    def _group(self, where: _Where) -> Group:
        return self.groups.setdefault(where, Group())

    def _shown(self) -> Iterator[dict[str, Any]]:
        for (table, partition, day), group in sorted(self.groups.items()):
            yield {
                "table": table, "partition": partition, "day": day, "log_rows": group.log_rows,
                "stored_rows": group.stored_rows, "log_checksum": f"{group.log_checksum:032x}",
                "stored_checksum": f"{group.stored_checksum:032x}", "same": group.same,
            }  # fmt: skip

    def _notes(self) -> list[str]:
        found = []
        if self.set_aside:
            found.append(f"{self.set_aside} spans and records are dead letters")
        if self.expired:
            found.append(f"{self.expired} rows are of days that were removed, and were not looked for")
        return found
