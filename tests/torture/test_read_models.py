"""The judge finds each sort of fault in a made-up log of events and its read model, and nothing in whole ones."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.experiment_event_pb2 import (
    EXPERIMENT_OUTCOME_COMPLETED,
    DatasetArchived,
    DatasetCreated,
    DatasetItemArchived,
    DatasetItemRecorded,
    ExperimentCancelled,
    ExperimentFinished,
    ExperimentItemFinished,
    ExperimentPaused,
    ExperimentRequested,
    ExperimentResumed,
    ItemEvaluation,
)
from lodestream_proto.v1.score_event_pb2 import ScoreRecorded, ScoreValue

from tests.torture import experiments_way
from tests.torture.contract import EXPERIMENTS, SCORES, LogEvent, read_event
from tests.torture.experiments_model import expected_experiments
from tests.torture.experiments_way import DATASETS, ExperimentStory, dataset_id_of
from tests.torture.findings import Finding, Kind
from tests.torture.judge_events import judge_events
from tests.torture.judge_models import Projected, judge_projected
from tests.torture.judge_runs import judge_runs, told_by_workers
from tests.torture.ledger import Claim, Sent
from tests.torture.log_reader import Events
from tests.torture.model import Table, Tables
from tests.torture.prompts_model import Heads, expected_prompts, judge_heads, judge_verdicts
from tests.torture.prompts_way import PromptStory, claim_of
from tests.torture.scores_model import expected_scores
from tests.torture.scores_way import ScoreStory
from tests.torture.tables import Progress
from tests.torture.wire import LogRecord, LogSpan

PROJECTS = ("one", "two")
_NOON_US = 1_780_000_000_000_000
_PARTITIONS = 3


@dataclass
class World:
    """What was sent, what is in the log, and what the read model makes of it."""

    history: list[Sent]
    events: list[LogEvent]
    expect: Callable[[Sequence[LogEvent]], Tables]
    found: Tables
    positions: dict[int, Any]
    letters: dict[tuple[int, int, int], Any]

    def judged(self) -> list[Finding]:
        """What the judge says."""
        ends = {n: self.log_end(n) for n in range(_PARTITIONS)}
        log = Events(self.events[0].topic, sorted(self.events, key=lambda one: (one.partition, one.offset)), ends)
        progress = Progress(self.letters, self.positions)
        projected = Projected(log, log, {}, self.expect(log.events), self.found, progress)
        return [*judge_events(self.history, log), *judge_projected(projected)]

    def log_end(self, partition: int) -> int:
        """The offset that a partition writes next."""
        return max((one.offset + 1 for one in self.events if one.partition == partition), default=0)


def _scores(rng: random.Random) -> tuple[list[list[Claim]], Callable[[Sequence[LogEvent]], Tables]]:
    story = ScoreStory(rng)
    return [[claim for _, claim in story.request(PROJECTS[n % 2])] for n in range(60)], expected_scores


def _prompts(rng: random.Random) -> tuple[list[list[Claim]], Callable[[Sequence[LogEvent]], Tables]]:
    story = PromptStory(rng)
    for project in PROJECTS:
        for name in ("prompt-1", "prompt-2"):
            story.versions[project, name], story.revisions[project, name] = 3, 4
    return [[claim_of(story.command(PROJECTS[n % 2]))] for n in range(300)], expected_prompts


def _experiments(rng: random.Random) -> tuple[list[list[Claim]], Callable[[Sequence[LogEvent]], Tables]]:
    story = ExperimentStory(rng)
    drawn = [_about_datasets_and_runs(story, n) for n in range(300)]
    return [[experiments_way.claim_of(payload)] for payload in drawn], expected_experiments


def _about_datasets_and_runs(story: ExperimentStory, n: int) -> Message:
    """First two datasets, then five runs, then anything about these; of each of the projects."""
    rng, project = story.random, PROJECTS[n % 2]
    name = DATASETS[n // 2 if n < 4 else rng.randrange(2)]
    run_id = f"run-{n // 2 - 2 if n < 14 else rng.randrange(5)}"
    about: dict[str, Any] = {"dataset_id": dataset_id_of(name)}
    author = story.author(project)
    if n < 4:
        return story.dataset(project, name)
    if n < 14:
        task = '{"kind": "sdk"}'
        return ExperimentRequested(run_id=run_id, name=author, dataset_version=1, task_json=task, **about)
    item = story.items(project, name)[0]
    return rng.choice((
        *[story.result(project, run_id) for _ in range(6)],
        *[item for _ in range(6)],
        DatasetItemArchived(item_id=item.item_id, author=author, **about),
        DatasetArchived(author=author, **about),
        story.dataset(project, name),
        story.end(project, run_id),
        ExperimentPaused(run_id=run_id, author=author),
        ExperimentResumed(run_id=run_id, author=author),
        ExperimentCancelled(run_id=run_id, author=author),
    ))  # fmt: skip


MODELS = {"scores": _scores, "prompts": _prompts, "experiments": _experiments}


@pytest.fixture(params=MODELS)
def world(request: pytest.FixtureRequest) -> World:
    """Requests one after the other, each answered, on three partitions."""
    requests, expect = MODELS[request.param](random.Random(7))
    history, events, rng = list[Sent](), list[LogEvent](), random.Random(8)
    offsets = dict.fromkeys(range(_PARTITIONS), 0)
    for number, claims in enumerate(requests):
        project, places = PROJECTS[number % 2], {}
        for claim in claims:
            if claim.valid:
                partition = _partition(claim)
                places[partition] = offsets[partition]
                events.append(_event(claim, project, (partition, offsets[partition]), number, rng))
                offsets[partition] += 1
        token = ",".join(f"{claims[0].topic}:{partition}:{offset}" for partition, offset in places.items())
        rejected = sum(not claim.valid for claim in claims)
        sent = Sent(f"way#{number}", "way", project, [], verdict="acked", position=token, rejected=rejected)
        sent.began, sent.ended, sent.claims = number, number + 0.5, claims
        history.append(sent)
    positions: dict[int, Any] = {n: {"next_offset": end, "halted_reason": None} for n, end in offsets.items()}
    found: Tables = {name: {key: dict(row) for key, row in table.items()} for name, table in expect(events).items()}
    return World(history, events, expect, found, positions, {})


def _partition(claim: Claim) -> int:
    """The same for all events about a prompt, a dataset or a run."""
    subjects = (claim.content.get(name, "") for name in ("prompt_name", "dataset_id", "run_id"))
    return len("".join(subjects)) % _PARTITIONS


def _event(claim: Claim, project: str, place: tuple[int, int], number: int, rng: random.Random) -> LogEvent:
    payload = json.dumps(claim.content).encode()
    appended_ms = _NOON_US // 1000 + number * 10
    return LogEvent(
        claim.topic, *place, payload, appended_ms, project,
        claim.event_id or f"00000000-0000-4000-8000-{rng.randrange(16**12):012x}", None, appended_ms * 1000 + place[1],
        claim.kind, claim.content, payload,
    )  # fmt: skip


def test_a_whole_world_is_clean(world: World) -> None:
    assert not world.judged()
    assert all(world.found.values()), "every table has rows"


def _lose_an_event(world: World) -> None:
    ids = [event.event_id for event in world.events]
    world.events = [event for event in world.events if event.event_id != next(i for i in ids[3:] if ids.count(i) == 1)]


def _lose_a_row(world: World) -> None:
    _table(world).popitem()


def _add_a_row(world: World) -> None:
    key, row = next(iter(_table(world).items()))
    _table(world)["nobody", *key[1:]] = row


def _show_it_to_another_project(world: World) -> None:
    table = _table(world)
    (project, *rest), row = table.popitem()
    table[next(other for other in PROJECTS if other != project), *rest, "stray"] = row


def _change_a_row(world: World) -> None:
    row: Any = next(iter(_table(world).values()))
    row[next(iter(row))] = "something else"


def _write_an_event_twice(world: World) -> None:
    partition = world.events[0].partition
    world.events.append(replace(world.events[0], offset=world.log_end(partition)))
    world.positions[partition]["next_offset"] += 1


def _forget_a_request(world: World) -> None:
    world.history = [sent for sent in world.history if not any(each in sent.claims for each in world.history[3].claims)]


def _keep_what_was_refused(world: World) -> None:
    world.history[3].verdict = "refused"


def _change_an_event(world: World) -> None:
    world.events[2] = replace(world.events[2], content={**world.events[2].content, "author": "somebody else"})


def _tell_another_position(world: World) -> None:
    topic = world.events[0].topic
    world.history[5].position = ",".join(f"{topic}:{n}:0" for n in range(_PARTITIONS))


def _answer_out_of_order(world: World) -> None:
    world.history[0].began, world.history[0].ended = 900.0, 900.5


def _refuse_more(world: World) -> None:
    world.history[2].rejected += 1


def _stop_early(world: World) -> None:
    world.positions[world.events[0].partition]["next_offset"] -= 1


def _halt(world: World) -> None:
    world.positions[0]["halted_reason"] = "too much poison"


def _set_a_good_event_aside(world: World) -> None:
    event = world.events[0]
    world.letters[event.partition, event.offset, -1] = {"raw": event.raw, "reason": "KeyError"}


def _lose_a_dead_letter(world: World) -> None:
    world.events.append(replace(world.events[0], offset=world.log_end(0), partition=0, why="torn", content={}))
    world.positions[0]["next_offset"] += 1


def _table(world: World) -> Table:
    return next(iter(world.found.values()))


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (_lose_an_event, Kind.LOST),
        (_lose_a_row, Kind.LOST),
        (_stop_early, Kind.LOST),
        (_lose_a_dead_letter, Kind.LOST),
        (_write_an_event_twice, Kind.DUPLICATED),
        (_add_a_row, Kind.INVENTED),
        (_show_it_to_another_project, Kind.INVENTED),
        (_forget_a_request, Kind.INVENTED),
        (_keep_what_was_refused, Kind.INVENTED),
        (_change_a_row, Kind.ALTERED),
        (_change_an_event, Kind.ALTERED),
        (_tell_another_position, Kind.OUT_OF_PROMISE),
        (_answer_out_of_order, Kind.OUT_OF_PROMISE),
        (_refuse_more, Kind.OUT_OF_PROMISE),
        (_halt, Kind.OUT_OF_PROMISE),
        (_set_a_good_event_aside, Kind.OUT_OF_PROMISE),
    ],
)
def test_a_fault_is_found(world: World, harm: Callable[[World], None], kind: Kind) -> None:
    harm(world)
    findings = world.judged()
    assert kind in {finding.kind for finding in findings}, findings


@pytest.mark.parametrize("world", ["prompts"], indirect=True)
def test_an_older_head_in_redis_is_found(world: World) -> None:
    decided = world.expect(world.events)
    place, row = next((place, row) for place, row in decided["prompts.prompts"].items() if row["revision"] > 1)
    labels = [
        {"label": key[2], "version": its["version"]}
        for key, its in decided["prompts.prompt_labels"].items()
        if key[:2] == place and its["version"]
    ]
    kept = {name: row[name] for name in ("revision", "archived", "latest_version")}
    head = {**kept, "labels": labels}
    assert not list(judge_heads(Heads({place: (row["revision"], head)}, []), decided))
    (older,) = judge_heads(Heads({place: (row["revision"] - 1, head)}, []), decided)
    assert older.kind is Kind.OUT_OF_PROMISE
    (altered,) = judge_heads(Heads({place: (row["revision"], {**head, "labels": []})}, []), decided)
    assert altered.kind is Kind.ALTERED
    (waiting,) = judge_heads(Heads({}, [place]), decided)
    assert waiting.kind is Kind.LOST


@pytest.mark.parametrize("world", ["prompts"], indirect=True)
def test_another_verdict_than_the_log_s_is_found(world: World) -> None:
    decided = world.expect(world.events)
    sent = next(sent for sent in world.history if sent.claims[0].kind == "prompt_version_created")
    sent.answer = {"version": 1, "revision": 1}
    assert not list(judge_verdicts([sent], decided))
    for wrong in ({"version": 2, "revision": 1}, {"refusal": "ABORTED"}):
        sent.answer = wrong
        (finding,) = judge_verdicts([sent], decided)
        assert finding.kind is Kind.OUT_OF_PROMISE


@pytest.fixture
def carried_out() -> list[Event]:
    """A run of workers over two items: a dataset, the request, a result with a score for each, the end."""
    dataset_id = dataset_id_of("gold")
    run: dict[str, Any] = {"run_id": "run"}
    task, stamp = '{"kind": "prompt"}', Timestamp(seconds=1_780_000_000)
    evaluation = ItemEvaluation(name="exact", boolean=True, score_id="score-item-1")
    results = [
        ExperimentItemFinished(item_id=f"item-{n}", trace_id=bytes([n]) * 16, started_at=stamp, ended_at=stamp, **run)
        for n in (1, 2)
    ]
    results[0].evaluations.append(evaluation)
    score = ScoreRecorded(score_id="score-item-1", name="exact", value=ScoreValue(boolean=True))
    return [
        Event(dataset_created=DatasetCreated(dataset_id=dataset_id, name="gold")),
        *[
            Event(dataset_item_recorded=DatasetItemRecorded(dataset_id=dataset_id, item_id=f"item-{n}", input_json="1"))
            for n in (1, 2)
        ],
        Event(
            experiment_requested=ExperimentRequested(
                name="run", dataset_id=dataset_id, dataset_version=3, task_json=task, repetitions=1, **run
            )
        ),
        *[Event(experiment_item_finished=result) for result in results],
        Event(experiment_finished=ExperimentFinished(outcome=EXPERIMENT_OUTCOME_COMPLETED, **run)),
        Event(score_recorded=score),
    ]


def _judged_runs(events: list[Event]) -> set[Kind]:
    experiments, scores, spans = list[LogEvent](), list[LogEvent](), list[LogSpan]()
    for number, event in enumerate(events):
        event.project_id, event.event_id = "one", event.event_id or f"00000000-0000-4000-8000-{number:012}"
        topic = SCORES if event.HasField("score_recorded") else EXPERIMENTS
        read = read_event(topic, 0, number, 1_780_000_000_000, event.SerializeToString())
        (scores if topic == SCORES else experiments).append(read)
        if event.HasField("experiment_item_finished"):
            trace = event.experiment_item_finished.trace_id.hex()
            spans.append(LogSpan(trace, "root", "", "run", 1, 2, {}, "bytes:same", ""))
    decided = expected_experiments(experiments)
    workers = told_by_workers(experiments, scores, decided)
    records = [LogRecord(0, 0, b"", "one", spans=spans)]
    return {finding.kind for finding in judge_runs(workers, records, decided)}


def _lose_a_result(events: list[Event]) -> None:
    del events[4]


def _lose_the_end(events: list[Event]) -> None:
    del events[6]


def _lose_a_score(events: list[Event]) -> None:
    del events[7]


def _tell_another_result(events: list[Event]) -> None:
    other = Event(event_id="00000000-0000-4000-8000-00000000ffff")
    other.experiment_item_finished.CopyFrom(events[5].experiment_item_finished)
    other.experiment_item_finished.output_json = '"something else"'
    events.append(other)


def _tell_of_another_item(events: list[Event]) -> None:
    other = Event()
    other.experiment_item_finished.CopyFrom(events[5].experiment_item_finished)
    other.experiment_item_finished.item_id = "nobody's"
    events.append(other)


def _give_another_score(events: list[Event]) -> None:
    events[7].score_recorded.value.boolean = False


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (_lose_a_result, Kind.LOST),
        (_lose_the_end, Kind.LOST),
        (_lose_a_score, Kind.LOST),
        (_tell_another_result, Kind.DUPLICATED),
        (_tell_of_another_item, Kind.INVENTED),
        (_give_another_score, Kind.ALTERED),
    ],
)
def test_a_fault_of_workers_is_found(carried_out: list[Event], harm: Callable[[list[Event]], None], kind: Kind) -> None:
    assert not _judged_runs([Event.FromString(event.SerializeToString()) for event in carried_out])
    harm(carried_out)
    assert kind in _judged_runs(carried_out)
