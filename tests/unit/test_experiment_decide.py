"""The log decides: one history of each dataset and run, in any batches, with anything told again."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lodestream_proto.v1.datasets_pb2 import (
    DATASET_CHANGE_KIND_ARCHIVED,
    DATASET_CHANGE_KIND_CREATED,
    DATASET_CHANGE_KIND_ITEM_ADDED,
)
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    EXPERIMENT_OUTCOME_BUDGET_SPENT,
    EXPERIMENT_OUTCOME_COMPLETED,
    EXPERIMENT_OUTCOME_FAILED,
    EXPERIMENT_OUTCOME_UNSPECIFIED,
)
from lodestream_proto.v1.experiments_pb2 import ExperimentState

from services.projections.experiments.commands import Command, command_of
from services.projections.experiments.content import item_digest
from services.projections.experiments.datasets import Change, Dataset, Item, NoDatasetError, decide_dataset
from services.projections.experiments.runs import NoRunError, Run, Step, decide_run
from tests.support.experiment_records import (
    again,
    archived,
    cancelled,
    created,
    finished,
    identity,
    item,
    item_archived,
    paused,
    record,
    requested,
    result,
    resumed,
    said,
    usage,
)
from tests.support.experiment_tables import ExperimentTables
from tests.support.projecting import batches
from tests.support.records import NOON


def payload_of(event: Event) -> Any:
    return getattr(event, event.WhichOneof("payload") or "")


@dataclass
class DatasetHistory:
    """A dataset with one item, and what was decided about them."""

    dataset: Dataset | None = None
    item: Item | None = None
    said: int = 0

    def tell(self, event: Event, *, after: timedelta | None = None) -> Change | None:
        self.said += 1
        at = NOON + (timedelta(seconds=self.said) if after is None else after)
        change = decide_dataset(self.dataset, self.item, payload_of(event), at)
        if change:
            self.dataset, self.item = change.dataset, change.item or self.item
        return change


def test_what_holds_already_is_no_change() -> None:
    history = DatasetHistory()
    assert history.tell(created(description="x", metadata_json='{"a": 1, "b": 2}'))
    assert history.tell(created(description="x", metadata_json='{"b":2,"a":1}', author="bob")) is None
    assert history.tell(item("a", '{"a": [1, 2]}', splits=["x", "y"]))
    assert history.tell(item("a", '{ "a":[1,2]}', splits=["y", "x", "y"], author="bob")) is None
    others: list[dict[str, Any]] = [
        {"input_json": '{"a": [2, 1]}'}, {"expected_output_json": "null"}, {"metadata_json": "{}"},
        {"source_trace_id": bytes(15) + b"1"}, {"splits": ["x"]}, {"input_json": '{"a": [1, 2.0]}'},
    ]  # fmt: skip
    for otherwise in others:
        assert history.tell(item(**{"input_json": '{"a": [1, 2]}', "splits": ["x", "y"], **otherwise})), otherwise
        assert history.tell(item("a", '{"a": [1, 2]}', splits=["x", "y"]))


def test_an_item_that_comes_back_is_the_same_item() -> None:
    history = DatasetHistory()
    history.tell(created())
    assert history.tell(item_archived()) is None, "what was never there is not there either"
    history.tell(item())
    first = history.item
    assert first is not None
    assert history.tell(item_archived())
    assert history.tell(item_archived()) is None
    back = history.tell(item())
    assert back is not None
    assert (back.kind, back.version, back.dataset.item_count) == (DATASET_CHANGE_KIND_ITEM_ADDED, 4, 1)
    assert history.item == Item(4, first.version, False, first.content, first.created_at)


def test_a_dataset_that_comes_back_goes_on_counting() -> None:
    history = DatasetHistory()
    told = [history.tell(its) for its in (created(), item(), archived(), archived(), item("a", '"new"'), created())]
    assert [change and change.version for change in told] == [1, 2, 3, None, 4, 5]
    assert [change.kind for change in (told[2], told[5]) if change] == [
        DATASET_CHANGE_KIND_ARCHIVED,
        DATASET_CHANGE_KIND_CREATED,
    ]
    assert history.dataset
    assert (history.dataset.archived, history.dataset.item_count) == (False, 1)


@pytest.mark.parametrize("event", [item(), item_archived(), archived()])
def test_nothing_is_told_of_a_dataset_that_is_not_there(event: Event) -> None:
    with pytest.raises(NoDatasetError, match="dataset_id: this project has no dataset '17d5efa"):
        decide_dataset(None, None, payload_of(event), NOON)


def test_instants_never_go_back() -> None:
    history = DatasetHistory()
    history.tell(created(), after=timedelta(hours=1))
    change = history.tell(item(), after=timedelta(0))
    assert change is not None
    assert change.dataset.changed_at == NOON + timedelta(hours=1)
    run = run_after(requested(), result("a"), finished(), step=timedelta(seconds=-1))
    assert run.requested_at < run.last_at
    assert run.ended_at == run.last_at == NOON + timedelta(microseconds=1)


def run_after(*events: Event, step: timedelta = timedelta(seconds=1)) -> Run:
    """A run when these have been told one after the other, each of a new item."""
    run: Run | None = None
    for n, event in enumerate(events):
        decided = decide_run(run, payload_of(event), NOON + n * step)
        run = decided.run if decided else run
    assert run
    return run


def test_states_of_a_run() -> None:
    def state(*events: Event) -> str:
        run = run_after(requested(), *events)
        return f"{ExperimentState.DESCRIPTOR.values_by_number[run.state].name[17:]} {run.reason}".strip()

    assert state() == state(paused(), resumed()) == state(resumed()) == state(requested(name="x")) == "RUNNING"
    assert state(paused(), result()) == "PAUSED"
    assert state(paused(), finished(outcome=EXPERIMENT_OUTCOME_COMPLETED, reason="x")) == "COMPLETED"
    assert state(finished(outcome=EXPERIMENT_OUTCOME_UNSPECIFIED)) == "COMPLETED"
    assert state(finished(outcome=EXPERIMENT_OUTCOME_BUDGET_SPENT, reason="$1")) == "BUDGET_SPENT $1"
    assert state(finished(outcome=EXPERIMENT_OUTCOME_FAILED, reason="x"), cancelled(reason="y")) == "FAILED x"
    assert state(cancelled(reason="y"), finished(), paused(), resumed()) == "CANCELLED y"


def test_evaluations_of_a_run_are_those_of_its_end() -> None:
    its = said("pass_rate", 0.5)
    assert run_after(requested(), finished(evaluations=[its])).run_evaluations == (its.SerializeToString(),)
    late = finished(evaluations=[its])
    assert run_after(requested(), cancelled(), late).run_evaluations == ()


@pytest.mark.parametrize("event", [result(), finished(), cancelled(), paused(), resumed()])
def test_nothing_is_told_of_a_run_that_is_not_there(event: Event) -> None:
    with pytest.raises(NoRunError, match="run_id: this project has no run 'r'"):
        decide_run(None, payload_of(event), NOON)


def test_a_result_that_is_known_is_none() -> None:
    run = run_after(requested(), result())
    assert decide_run(run, payload_of(result()), NOON, is_known=True) is None
    assert isinstance(decide_run(run, payload_of(result()), NOON), Step)


# What may be told, about two datasets and two runs: by a few ids, so that they meet.

ids = st.integers(1, 60)
names, item_ids, run_ids = st.sampled_from(["a", "b"]), st.sampled_from("xy"), st.sampled_from("rs")
contents = st.fixed_dictionaries(
    {
        "input_json": st.sampled_from(['{"k":1,"l":2}', ' {"l": 2, "k": 1}', "1"]),
        "expected_output_json": st.sampled_from(["", "null"]),
        "splits": st.sampled_from([[], ["t"], ["t", "s"], ["s", "t", "s"]]),
    }
)
dataset_events = st.one_of(
    st.builds(lambda of, text: created(of, description=text), names, st.sampled_from("de")),
    st.builds(lambda its, of, content: item(its, of=of, **content), item_ids, names, contents),
    st.builds(lambda its, of, content: item(its, of=of, **content), item_ids, names, contents),
    st.builds(lambda its, of: item_archived(its, of=of), item_ids, names),
    st.builds(archived, names),
)
run_events = st.one_of(
    st.builds(lambda its, name: requested(its, name=name), run_ids, names),
    st.builds(
        lambda its, run, repetition, error, cost, value: result(
            its, run, repetition=repetition, error=error, usage=usage(1, 2, cost), evaluations=[said("e", value)]
        ),
        item_ids, run_ids, st.integers(0, 1), st.sampled_from(["", "x"]), st.none() | st.integers(0, 9),
        st.booleans() | st.sampled_from([0.5, "c"]),
    ),
    st.builds(finished, run_ids),
    st.builds(cancelled, run_ids),
    st.builds(paused, run_ids),
    st.builds(resumed, run_ids),
)  # fmt: skip
told_events = st.tuples(dataset_events | run_events, ids, st.integers(-2, 5)).map(
    lambda told: (again(told[0], identity(told[1])), told[2])
)
beginnings = st.sampled_from([[], [(created("a"), 0), (requested("r"), 0)]])
# Lists are short as a rule, and all is worth telling only when much has been told.
logs = st.tuples(
    beginnings, st.integers(0, 40).flatmap(lambda size: st.lists(told_events, min_size=size, max_size=size + 10))
).map(lambda parts: parts[0] + parts[1])


LEISURELY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def commands_of(log: Sequence[tuple[Event, int]]) -> list[Command]:
    """The log's records as commands; an event's id is often one that another event had."""
    return [command_of(record(event, n, after_ms=3 * n + jitter)) for n, (event, jitter) in enumerate(log)]


@LEISURELY
@given(logs, st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_batches_make_no_difference(log: Sequence[tuple[Event, int]], sizes: Sequence[int]) -> None:
    commands = commands_of(log)
    at_once, in_batches = ExperimentTables(), ExperimentTables()
    at_once.fold(commands)
    for batch in batches(commands, sizes):
        in_batches.fold(batch)
    assert in_batches == at_once


@LEISURELY
@given(logs, st.data())
def test_what_is_told_again_makes_no_difference(log: Sequence[tuple[Event, int]], data: st.DataObject) -> None:
    """Any record may be in the log again, at any later place, unless it was refused where it was first."""
    once, doubled = ExperimentTables(), ExperimentTables()
    commands = commands_of(log)
    once.fold(commands)
    refused = {offset for offset, _ in once.refused}
    told = [its for its in commands if its.record.offset not in refused]
    more = list(told)
    for copy in data.draw(st.lists(st.sampled_from(told), max_size=10)) if told else []:
        more.insert(data.draw(st.integers(more.index(copy) + 1, len(more))), copy)
    once = ExperimentTables()
    once.fold(told)
    doubled.fold(more)
    assert doubled == once


@dataclass
class Naive:
    """What the log says, in the plainest words: every version of a dataset as a whole, every result as it was told."""

    versions: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    added: dict[str, list[str]] = field(default_factory=dict)
    runs: dict[str, dict[tuple[str, int], Any]] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)

    def tell(self, event: Event) -> None:
        its, kind = payload_of(event), event.WhichOneof("payload") or ""
        subject = its.dataset_id if kind.startswith("dataset") else its.run_id
        if (subject, event.event_id) in self.seen:
            return
        if kind == "experiment_requested":
            self.runs.setdefault(subject, {})
        elif kind == "dataset_created":
            self.versions.setdefault(subject, [{}])
        elif subject not in self.versions and subject not in self.runs:
            return
        self.seen.add((subject, event.event_id))
        if kind == "experiment_item_finished":
            self.runs[subject].setdefault((its.item_id, its.repetition), its)
        if kind.startswith("dataset"):
            self._tell_dataset(subject, kind, its)

    def _tell_dataset(self, subject: str, kind: str, its: Any) -> None:
        now = self.versions[subject][-1]
        then = dict(now)
        match kind:
            case "dataset_created":
                then |= {"": its.description}
            case "dataset_archived":
                then |= {"": None}
            case "dataset_item_recorded":
                value = json.loads(its.input_json), its.expected_output_json, tuple(sorted(set(its.splits)))
                then |= {its.item_id: value}
                added = self.added.setdefault(subject, [])
                if its.item_id not in added:
                    added.append(its.item_id)
            case "dataset_item_archived":
                then.pop(its.item_id, None)
        if then != now:
            self.versions[subject].append(then)


@LEISURELY
@given(logs)
def test_the_tables_say_what_the_log_says(log: Sequence[tuple[Event, int]]) -> None:
    naive, tables = Naive(), ExperimentTables()
    tables.fold(commands_of(log))
    for event, _ in log:
        naive.tell(event)
    assert {subject for _, subject in tables.datasets} == set(naive.versions)
    for dataset_id, versions in naive.versions.items():
        check_dataset(tables, dataset_id, versions, naive.added.get(dataset_id, []))
    assert {subject for _, subject in tables.runs} == set(naive.runs)
    for run_id, results in naive.runs.items():
        check_run(tables, run_id, results)


def check_dataset(
    tables: ExperimentTables, dataset_id: str, versions: Sequence[Mapping[str, Any]], added: Sequence[str]
) -> None:
    """Each version is what its ranges say; versions[0] is before the first one."""
    head = tables.datasets["p", dataset_id]
    assert head.version == len(versions) - 1
    assert sorted(row.version for row in tables.changes.values() if row.dataset_id == dataset_id) == list(
        range(1, len(versions))
    )
    items = [row for row in tables.items.values() if row.dataset_id == dataset_id]
    descriptions = [row for row in tables.descriptions.values() if row.dataset_id == dataset_id]
    for version, expected in enumerate(versions[1:], 1):
        held = [row for row in items if row.version <= version < (row.until_version or version + 1)]
        there = {
            row.item_id: (json.loads(row.input), row.expected_output, tuple(row.splits))
            for row in held
            if not row.archived
        }
        (described,) = [row for row in descriptions if row.version <= version < (row.until_version or version + 1)]
        assert there | {"": None if described.archived else described.description} == expected
        assert Counter(row.item_id for row in held).most_common(1) in ([], [(held[0].item_id if held else "", 1)])
    last = versions[-1]
    assert (head.item_count, head.archived) == (len(last.keys() - {""}), last[""] is None)
    first = {row.item_id: row.first_version for row in items}
    assert sorted(first, key=lambda its: first[its]) == added


def check_run(tables: ExperimentTables, run_id: str, results: Mapping[tuple[str, int], Any]) -> None:
    run, rows = tables.runs["p", run_id], [row for row in tables.results.values() if row.run_id == run_id]
    assert {(row.item_id, row.repetition): row.result for row in rows} == {
        key: its.SerializeToString(deterministic=True) for key, its in results.items()
    }
    assert (run.items_finished, run.items_failed) == (len(results), sum(bool(its.error) for its in results.values()))
    assert (run.input_tokens, run.output_tokens) == (len(results), 2 * len(results))
    assert run.cost_picodollars == sum(its.usage.cost_picodollars for its in results.values())
    assert [row.finished_at for row in rows] == sorted({row.finished_at for row in rows}), "each later than the last"
    assert run.last_at >= max((row.finished_at for row in rows), default=run.requested_at)


def test_items_have_one_digest_for_all_writings() -> None:
    one, other = item("a", '{"a":1,"b":[true,null]}'), item("b", ' {"b":[ true,null ],"a":1}', author="x")
    assert item_digest(one.dataset_item_recorded) == item_digest(other.dataset_item_recorded)
    apart = [item("a", "[1]"), item("a", "[true]"), item("a", "1", expected_output_json="1"), item("a", "1")]
    assert len({item_digest(its.dataset_item_recorded) for its in apart}) == len(apart)
