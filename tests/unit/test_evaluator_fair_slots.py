"""Free slots among runs: nobody above its room or its share of what is free, and the least served first."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.write.evaluator.fair_slots import MAX_HELD_PER_FREE, CandidateRun, share_slots


def run(
    project: str, run_id: str, *, ready: int = 100, of_run: int = 0, of_project: int = 0, most: int = 100
) -> CandidateRun:
    return CandidateRun(project, run_id, ready, of_run, of_project, most)


@st.composite
def candidates(draw: st.DrawFn) -> list[CandidateRun]:
    drawn = []
    for project in draw(st.sets(st.sampled_from("abcd"), min_size=1)):
        under_way = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
        drawn += [
            run(
                project, f"{project}{n}", ready=draw(st.integers(0, 8)), of_run=of_run, of_project=sum(under_way),
                most=draw(st.integers(1, 8)),
            )
            for n, of_run in enumerate(under_way)
        ]  # fmt: skip
    return drawn


def room_of(candidate: CandidateRun) -> int:
    return max(0, min(candidate.ready, candidate.max_concurrency - candidate.running_of_run))


@given(candidates(), st.integers(0, 40), st.dictionaries(st.sampled_from("abcd"), st.integers(0, 20)))
def test_no_more_than_there_is_room_for_and_no_slot_wasted(
    runs: list[CandidateRun], slots: int, held: dict[str, int]
) -> None:
    """Who could have more has as many times of what is left free as a project may have."""
    given_out = share_slots(slots, runs, held)
    rooms = {(each.project_id, each.run_id): room_of(each) for each in runs}
    assert all(0 < size <= rooms[key] for key, size in given_out.items())
    left = slots - sum(given_out.values())
    assert left >= 0
    holds = Counter(held)
    for (project, _), size in given_out.items():
        holds[project] += size
    for (project, run_id), room in rooms.items():
        if given_out.get((project, run_id), 0) < room:
            assert holds[project] >= MAX_HELD_PER_FREE * left


@given(candidates(), st.integers(0, 40))
def test_without_a_share_of_what_is_free_all_of_it_is_used(runs: list[CandidateRun], slots: int) -> None:
    given_out = share_slots(slots, runs, {}, max_held_per_free=math.inf)
    assert sum(given_out.values()) == min(slots, sum(map(room_of, runs)))


@given(candidates(), st.integers(0, 40))
def test_who_could_have_had_one_has_no_less_than_who_got_one(runs: list[CandidateRun], slots: int) -> None:
    """Between projects, and between the runs of one: nobody is two behind a peer that was given something."""
    given_out = share_slots(slots, runs, {}, max_held_per_free=math.inf)
    by_project: dict[str, list[CandidateRun]] = {}
    for each in runs:
        by_project.setdefault(each.project_id, []).append(each)

    def got(each: CandidateRun) -> int:
        return given_out.get((each.project_id, each.run_id), 0)

    after = {project: group[0].running_of_project + sum(map(got, group)) for project, group in by_project.items()}
    could = {project for project, group in by_project.items() if any(got(each) < room_of(each) for each in group)}
    served = {project for project, group in by_project.items() if any(map(got, group))}
    assert all(after[one] <= after[other] + 1 for one in served for other in could)
    for group in by_project.values():
        hungry = [each.running_of_run + got(each) for each in group if got(each) < room_of(each)]
        fed = [each.running_of_run + got(each) for each in group if got(each)]
        assert all(one <= other + 1 for one in fed for other in hungry)


def test_a_project_with_many_runs_gets_no_more_than_one_with_one() -> None:
    runs = [*(run("many", f"m{n}") for n in range(5)), run("one", "o")]
    given_out = share_slots(10, runs, {}, max_held_per_free=math.inf)
    assert given_out["one", "o"] == 5
    assert [given_out["many", f"m{n}"] for n in range(5)] == [1] * 5


def test_a_project_that_is_alone_leaves_slots_for_who_comes_next() -> None:
    """However much waits, and however often it asks; so does the next one, and the one after that."""
    held: dict[str, int] = {}
    free = 48
    for project, most in (("a", 32), ("b", 11), ("c", 4), ("d", 1)):
        for _ in range(100):
            given_out = share_slots(free, [run(project, "r", ready=10_000, most=1_000)], held)
            held[project] = held.get(project, 0) + sum(given_out.values())
            free -= sum(given_out.values())
        assert held[project] == most
    assert free == 0
