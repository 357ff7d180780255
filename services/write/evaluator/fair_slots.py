"""Who is served: free slots among runs, so that projects, and the runs in each, have equally much under way. Pure.

Slots are held for as long as a model takes, so a project that is alone leaves some free for who comes next: it may hold
at most `OF_FREE` times as many as are free, as the ports of a switch share its buffer (Choudhury and Hahne, "Dynamic
queue length thresholds for shared-memory packet switches", IEEE/ACM Transactions on Networking 6(2), 1998).
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

OF_FREE = 2.0
"""A project that is alone takes two thirds of a worker's slots, the next one two thirds of what is left, and so on."""


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


def share(
    slots: int, candidates: Iterable[Candidate], held: Mapping[str, int], *, of_free: float = OF_FREE
) -> dict[tuple[str, str], int]:
    """How many of the free slots each run gets: one by one to the project, and in it the run, with the least under way.

    No run gets more than its room, and no project more than `of_free` times what is free then; `held` is what each
    project has of this worker's slots already. Of equals the first given comes first.
    """
    held = Counter(held)
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
        if held[project_id] >= of_free * slots:
            continue  # for good: it holds no less later, and there is no more that is free
        runs = waiting[project_id]
        of_run, its_order, run = heapq.heappop(runs)
        key = run.project_id, run.run_id
        given[key] += 1
        held[project_id] += 1
        slots -= 1
        if given[key] < run.room:
            heapq.heappush(runs, (of_run + 1, its_order, run))
        if runs:
            heapq.heappush(projects, (of_project + 1, order, project_id))
    return dict(given)
