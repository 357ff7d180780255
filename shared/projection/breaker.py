"""When a partition must stop: what can't be folded is most likely the fault of our own code or schema, not of the data.

One project's bad data, however much there is of it, becomes its dead letters and stops nobody. That many projects fail
at the same time is no coincidence: the partition stops, and nothing is set aside any more. Where nothing can be folded
for a while, but few write, a sample event that must always fold decides (`Projection.sample`).
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

RECENT = timedelta(minutes=10)
"""By the log's time; what a project wrote before says nothing about the code that runs now."""
MIN_PROJECTS = 3
MIN_BAD = 100
"""So many bad items in all, of which each project counts for MOST_OF_ONE at most, stop a partition with many failing
projects; so many in a row, whoever sent them, have the projection try its sample."""
MOST_OF_ONE = 50
FAILING_SHARE = 0.05
"""A project fails when more than this share of its recent items is bad."""
MANY_SHARE = 0.8
"""Many projects: at least MIN_PROJECTS, and this share of those that wrote recently."""
_WINDOW = 1_000
_MOST_PROJECTS = 1_000
_MOST_UNREADABLE = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one record went: items folded, and items (or the record itself) set aside.

    `appended_at` is the log's time; the project of a record that is no Event is empty.
    """

    project_id: str
    appended_at: datetime
    good: int
    bad: int


@dataclass(frozen=True, slots=True)
class _Recent:
    """A project's recent items: about the last 1,000, the older ones counting ever less."""

    good: int
    bad: int
    last_at: datetime

    @property
    def failing(self) -> bool:
        return self.bad > FAILING_SHARE * (self.good + self.bad)


class Breaker:
    """What is known of a partition's recent records, project by project."""

    def __init__(self) -> None:
        self.tripped: str | None = None
        """Why the partition must stop."""
        self.suspicious: str | None = None
        """Why it may have to: nothing could be folded lately, whoever wrote it."""
        self._projects: OrderedDict[str, _Recent] = OrderedDict()
        self._unreadable = 0
        self._in_a_row = 0

    def after(self, outcomes: Iterable[Outcome]) -> "Breaker":
        """The breaker as it will be when a batch with these outcomes is committed; this one stays as it is."""
        later = Breaker()
        later._projects, later._unreadable = self._projects.copy(), self._unreadable
        later._in_a_row = self._in_a_row
        any_bad = False
        for outcome in outcomes:
            later._add(outcome)
            any_bad = any_bad or outcome.bad > 0
        if any_bad:
            later._judge()
        return later

    def _add(self, outcome: Outcome) -> None:
        self._in_a_row = outcome.bad if outcome.good else self._in_a_row + outcome.bad
        if not outcome.project_id:
            self._unreadable += 1
            if self._unreadable >= _MOST_UNREADABLE:
                self.tripped = f"{self._unreadable} records in a row can't be read; only a gateway writes to the log"
            return
        self._unreadable = 0
        recent = self._projects.get(outcome.project_id)
        good, bad = outcome.good, outcome.bad
        if recent is not None and outcome.appended_at - recent.last_at <= RECENT:
            good, bad = good + recent.good, bad + recent.bad
        while good + bad > _WINDOW:
            good, bad = good // 2, (bad + 1) // 2
        self._projects[outcome.project_id] = _Recent(good, bad, outcome.appended_at)
        self._projects.move_to_end(outcome.project_id)
        if len(self._projects) > _MOST_PROJECTS:
            self._projects.popitem(last=False)

    def _judge(self) -> None:
        if not self._projects:
            return
        newest = max(recent.last_at for recent in self._projects.values())
        recent = [each for each in self._projects.values() if newest - each.last_at <= RECENT]
        failing = [each for each in recent if each.failing]
        many = len(failing) >= max(MIN_PROJECTS, MANY_SHARE * len(recent))
        if many and sum(min(each.bad, MOST_OF_ONE) for each in failing) >= MIN_BAD:
            self.tripped = self.tripped or (
                f"items of {len(failing)} of {len(recent)} projects could not be folded: most likely a fault of ours"
            )
        if self._in_a_row >= MIN_BAD:
            self.suspicious = f"{self._in_a_row} items in a row could not be folded, nor our own sample"
