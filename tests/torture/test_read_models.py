"""The judge finds each sort of fault in a made-up log of events and its read model, and nothing in whole ones."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.torture.contract import LogEvent
from tests.torture.findings import Finding, Kind
from tests.torture.judge_events import judge_events
from tests.torture.judge_models import Projected, judge_projected
from tests.torture.ledger import Claim, Sent
from tests.torture.log_reader import Events
from tests.torture.model import Table, Tables
from tests.torture.prompts_model import expected_prompts
from tests.torture.prompts_way import PromptStory, claim_of
from tests.torture.scores_model import expected_scores
from tests.torture.scores_way import ScoreStory
from tests.torture.tables import Progress

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
        projected = Projected(log, {}, self.expect(log.events), self.found, progress)
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


MODELS = {"scores": _scores, "prompts": _prompts}


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
