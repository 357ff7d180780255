"""Which runs get free slots: such that projects, and the runs of each, have equally many jobs running. Pure.

Slots are held for as long as a model takes, so a project that is alone leaves some free for who comes next: it may hold
at most `MAX_HELD_PER_FREE` times as many as are free, as the ports of a switch share its buffer (Choudhury and Hahne,
"Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM Transactions on Networking 6(2), 1998).
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MAX_HELD_PER_FREE = 2.0
"""A project that is alone takes two thirds of a worker's slots, the next one two thirds of what is left, and so on."""


@dataclass(frozen=True, slots=True)
class CandidateRun:
    """A run of which jobs could begin."""

    project_id: str
    run_id: str
    ready: int
    running_of_run: int
    """Jobs of the run that are running, over all workers."""
    running_of_project: int
    max_concurrency: int

    @property
    def room(self) -> int:
        """How many more jobs of the run may begin."""
        return max(0, min(self.ready, self.max_concurrency - self.running_of_run))


def share_slots(
    slots: int,
    candidates: Iterable[CandidateRun],
    held: Mapping[str, int],
    *,
    max_held_per_free: float = MAX_HELD_PER_FREE,
) -> dict[tuple[str, str], int]:
    """Share free slots among runs: each slot goes to the project, and in it to the run, with the fewest running jobs.

    No run gets more than its room, and no project more than `max_held_per_free` times what is free then; `held` is how
    many of this worker's slots each project has already. Ties go to the candidate that is given first. Returns how many
    slots each run gets.
    """
    held = Counter(held)
    granted: Counter[tuple[str, str]] = Counter()
    waiting: dict[str, list[tuple[int, int, CandidateRun]]] = {}
    for order, each in enumerate(candidates):
        if each.room:
            waiting.setdefault(each.project_id, []).append((each.running_of_run, order, each))
    projects = []
    for order, (project_id, runs) in enumerate(waiting.items()):
        heapq.heapify(runs)
        projects.append((runs[0][2].running_of_project, order, project_id))
    heapq.heapify(projects)
    while slots and projects:
        of_project, order, project_id = heapq.heappop(projects)
        if held[project_id] >= max_held_per_free * slots:
            continue  # for good: it holds no less later, and there is no more that is free
        runs = waiting[project_id]
        of_run, run_order, run = heapq.heappop(runs)
        key = run.project_id, run.run_id
        granted[key] += 1
        held[project_id] += 1
        slots -= 1
        if granted[key] < run.room:
            heapq.heappush(runs, (of_run + 1, run_order, run))
        if runs:
            heapq.heappush(projects, (of_project + 1, order, project_id))
    return dict(granted)
