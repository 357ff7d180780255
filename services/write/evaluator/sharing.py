"""Who is served: free slots among runs, so that projects, and the runs in each, have equally much under way. Pure."""

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run of which something could begin."""

    project_id: str
    run_id: str
    ready: int
    of_run: int
    """Under way, over all workers."""
    of_project: int
    max_concurrency: int

    @property
    def room(self) -> int:
        """How many more of it may begin."""
        return max(0, min(self.ready, self.max_concurrency - self.of_run))


def share(slots: int, candidates: Iterable[Candidate]) -> dict[tuple[str, str], int]:
    """How many slots each run gets: one after the other to the project, and in it the run, with the least under way.

    No slot stays free that somebody could use, and none gets more than its room. Of equals the first given comes first.
    """
    given: Counter[tuple[str, str]] = Counter()
    waiting: dict[str, list[tuple[int, int, Candidate]]] = {}
    for order, each in enumerate(candidates):
        if each.room:
            waiting.setdefault(each.project_id, []).append((each.of_run, order, each))
    projects = []
    for order, (project_id, runs) in enumerate(waiting.items()):
        heapq.heapify(runs)
        projects.append((runs[0][2].of_project, order, project_id))
    heapq.heapify(projects)
    while slots and projects:
        of_project, order, project_id = heapq.heappop(projects)
        runs = waiting[project_id]
        of_run, its_order, run = heapq.heappop(runs)
        key = run.project_id, run.run_id
        given[key] += 1
        slots -= 1
        if given[key] < run.room:
            heapq.heappush(runs, (of_run + 1, its_order, run))
        if runs:
            heapq.heappush(projects, (of_project + 1, order, project_id))
    return dict(given)
