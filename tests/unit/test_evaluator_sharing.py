"""Free slots among runs: nobody above its room, no slot free that somebody could use, and the least served first."""

from hypothesis import given
from hypothesis import strategies as st

from services.write.evaluator.sharing import Candidate, share


def run(
    project: str, run_id: str, *, ready: int = 100, of_run: int = 0, of_project: int = 0, most: int = 100
) -> Candidate:
    return Candidate(project, run_id, ready, of_run, of_project, most)


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    found = []
    for project in draw(st.sets(st.sampled_from("abcd"), min_size=1)):
        under_way = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
        found += [
            run(
                project, f"{project}{n}", ready=draw(st.integers(0, 8)), of_run=of_run, of_project=sum(under_way),
                most=draw(st.integers(1, 8)),
            )
            for n, of_run in enumerate(under_way)
        ]  # fmt: skip
    return found


def room_of(candidate: Candidate) -> int:
    return max(0, min(candidate.ready, candidate.max_concurrency - candidate.of_run))


@given(candidates(), st.integers(0, 40))
def test_no_more_than_there_is_room_for_and_no_slot_wasted(runs: list[Candidate], slots: int) -> None:
    given_out = share(slots, runs)
    rooms = {(each.project_id, each.run_id): room_of(each) for each in runs}
    assert all(0 < size <= rooms[key] for key, size in given_out.items())
    assert sum(given_out.values()) == min(slots, sum(rooms.values()))


@given(candidates(), st.integers(0, 40))
def test_who_could_have_had_one_has_no_less_than_who_got_one(runs: list[Candidate], slots: int) -> None:
    """Between projects, and between the runs of one: nobody is two behind a peer that was given something."""
    given_out = share(slots, runs)
    by_project: dict[str, list[Candidate]] = {}
    for each in runs:
        by_project.setdefault(each.project_id, []).append(each)

    def got(each: Candidate) -> int:
        return given_out.get((each.project_id, each.run_id), 0)

    after = {project: its[0].of_project + sum(map(got, its)) for project, its in by_project.items()}
    could = {project for project, its in by_project.items() if any(got(each) < room_of(each) for each in its)}
    served = {project for project, its in by_project.items() if any(map(got, its))}
    assert all(after[one] <= after[other] + 1 for one in served for other in could)
    for its in by_project.values():
        hungry = [each.of_run + got(each) for each in its if got(each) < room_of(each)]
        fed = [each.of_run + got(each) for each in its if got(each)]
        assert all(one <= other + 1 for one in fed for other in hungry)


def test_a_project_with_many_runs_gets_no_more_than_one_with_one() -> None:
    runs = [*(run("many", f"m{n}") for n in range(5)), run("one", "o")]
    given_out = share(10, runs)
    assert given_out["one", "o"] == 5
    assert [given_out["many", f"m{n}"] for n in range(5)] == [1] * 5
