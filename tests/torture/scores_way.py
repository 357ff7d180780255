"""Scores, corrections, withdrawals and configs of two projects under the same ids, some of which must be refused."""

import math
import random
from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from lodestream_proto.v1 import scores_pb2 as pb
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.score_event_pb2 import (
    SCORE_SOURCE_API,
    SCORE_TYPE_CATEGORICAL,
    SCORE_TYPE_NUMERIC,
    ScoreCategory,
    ScoreConfigDefined,
    ScoreRecorded,
    ScoreRetracted,
    ScoreTarget,
    ScoreValue,
)
from lodestream_proto.v1.scores_pb2_grpc import ScoreServiceStub

from tests.torture.contract import SCORES, Content, content_of
from tests.torture.driver import Operation, Tenant, random_uuid
from tests.torture.ledger import Claim, Ledger
from tests.torture.ways import Answer, ask, record_events

_SCORES, _TRACES, _CONFIGS = 150, 60, 4  # so few that most events are about something that was told of before
_YEAR_2150, _NOON = 5_680_281_600, 1_780_000_000
_MOST_EVENTS = 6
_GRADES = {"bad": -1.0, "good": 0.5, "🌈": 2.0}
_GRADED = {
    "type": SCORE_TYPE_CATEGORICAL,
    "categories": [ScoreCategory(label=label, value=value) for label, value in _GRADES.items()],
}
_RANGED = {"type": SCORE_TYPE_NUMERIC, "min_value": 0.0, "max_value": 10.0}


class ScoreStory:
    """Events drawn one by one, most of them about something that was told of before."""

    def __init__(self, rng: random.Random) -> None:
        self.random = rng
        """Whoever tells the story may draw from it, too."""
        self.defined: set[tuple[str, str]] = set()
        """Projects and ids of configs that scores may name: these never change."""
        self._sent: list[tuple[str, Event, Claim]] = []

    def request(self, project: str) -> list[tuple[Event, Claim]]:
        """Some events of a project, and what they claim."""
        drawn = [self._draw(project) for _ in range(self.random.randint(1, _MOST_EVENTS))]
        self._sent = [*self._sent, *((project, *each) for each in drawn)][-200:]
        return drawn

    def config(self, project: str) -> ScoreConfigDefined:
        """One that changes, and that no score names."""
        rng, description = self.random, f"{project} {self.random.randrange(10**6)}"
        fields: dict[str, Any] = {
            "config_id": f"changing-{rng.randrange(_CONFIGS)}", "name": "graded", "description": description,
        }  # fmt: skip
        return ScoreConfigDefined(**_GRADED if rng.random() < 0.5 else _RANGED, **fields)

    def _draw(self, project: str) -> tuple[Event, Claim]:
        rng = self.random
        chance = rng.random()
        before = [(event, claim) for its, event, claim in self._sent if its == project]
        if before and chance < 0.1:
            return rng.choice(before)  # the same event again, in another request
        event = Event(event_id=random_uuid(rng), project_id="forged")
        if self._sent and chance < 0.15:  # an id that is used for something else, here or by somebody else
            event.event_id = rng.choice(self._sent)[1].event_id
        self._date(event)
        if chance < 0.3:
            event.score_retracted.CopyFrom(self._retraction(project))
        elif chance < 0.36:
            event.score_config_defined.CopyFrom(self.config(project))
        else:
            return self._drawn_score(project, event, chance)
        return event, claim_of(event)

    def _drawn_score(self, project: str, event: Event, chance: float) -> tuple[Event, Claim]:
        score, valid = self._score(project), True
        kept: dict[str, Any] = {"source": SCORE_SOURCE_API}
        configs = sorted(config for its, config in self.defined if its == project)
        if configs and chance < 0.5:
            kept |= self._by_config(score, self.random.choice(configs))
            if chance > 0.47 and score.value.WhichOneof("kind") == "numeric":
                score.value.numeric, valid = 11.0, False  # more than the config allows
        elif chance > 0.94:
            self.random.choice(_SPOILERS)(score)
            valid = False
        event.score_recorded.CopyFrom(score)
        return event, claim_of(event, valid=valid, **kept)

    def _date(self, event: Event) -> None:
        """When it occurred: now (its author does not say), in the past, much later than now."""
        chance = self.random.random()
        if chance < 0.7:
            seconds = _YEAR_2150 if chance < 0.05 else _NOON + self.random.randrange(1_000_000)
            event.occurred_at.CopyFrom(Timestamp(seconds=seconds, nanos=self.random.randrange(10**9)))

    def _score(self, project: str) -> ScoreRecorded:
        rng = self.random
        values = (
            ScoreValue(numeric=rng.uniform(-1e6, 1e6)), ScoreValue(numeric=0.0), ScoreValue(boolean=rng.random() < 0.5),
            ScoreValue(categorical=rng.choice(("yes", "näh", "🌈"))),
            ScoreValue(text="in words " + rng.randbytes(20).hex()),
        )  # fmt: skip
        return ScoreRecorded(
            score_id=f"score-{rng.randrange(_SCORES)}",
            target=self._target(),
            name=rng.choice(("quality", "helpful", "toxicity 🌈")),
            value=rng.choice(values),
            comment=f"{project} says {rng.randrange(10**6)}",
            author=rng.choice(("", "torturer")),
            evaluator_version=rng.choice(("", "v7")),
            environment=rng.choice(("", "production")),
            metadata_json=rng.choice(("", '{"why": "β", "deep": [1, {"2": null}]}')),
        )

    def _retraction(self, project: str) -> ScoreRetracted:
        score_id = f"score-{self.random.randrange(_SCORES)}"
        return ScoreRetracted(score_id=score_id, target=self._target(), reason=f"{project} takes it back")

    def _target(self) -> ScoreTarget:
        rng = self.random
        number = rng.randrange(_TRACES)
        trace_id = number.to_bytes(16, "little")
        return rng.choice((
            ScoreTarget(trace_id=b"t" + trace_id[1:]), ScoreTarget(trace_id=b"t" + trace_id[1:], span_id=b"s" * 8),
            ScoreTarget(session_id=f"session {number}"), ScoreTarget(run_id=f"run {number}"),
        ))  # fmt: skip

    def _by_config(self, score: ScoreRecorded, config_id: str) -> Content:
        """Let it keep to a config; returns what the gateway adds of that."""
        score.config_id, score.name = config_id, ""
        if config_id == "numbers":
            score.value.CopyFrom(ScoreValue(numeric=self.random.uniform(0, 10)))
            return {"name": "graded"}
        label = self.random.choice(list(_GRADES))
        score.value.CopyFrom(ScoreValue(categorical=label))
        return {"name": "graded", "category_value": _GRADES[label]}


class ScoresWriter:
    """Requests of some events, definitions of configs, and reads."""

    def __init__(
        self, channel: grpc.aio.Channel, tenants: Sequence[Tenant], rng: random.Random, ledger: Ledger
    ) -> None:
        self._channel, self._tenants, self._ledger = channel, tenants, ledger
        self._story = ScoreStory(rng)
        self._scores: Any = ScoreServiceStub(channel)

    def next(self) -> Operation:
        """For one of the projects."""
        rng, tenant = self._story.random, self._story.random.choice(self._tenants)
        chance = rng.random()
        if chance < 0.08:
            return self._define(tenant)
        if chance < 0.14:
            return self._list(tenant)
        drawn = self._story.request(tenant.project)
        events, claims = [event for event, _ in drawn], [claim for _, claim in drawn]
        return Operation(tenant, claims, lambda secret: record_events(self._channel, events, secret))

    async def finish(self) -> None:
        """Nothing waits."""

    def _define(self, tenant: Tenant) -> Operation:
        """A config that scores may name from then on, or one that changes."""
        kind = self._story.random.choice(("categories", "numbers"))
        config = self._story.config(tenant.project)
        if stays := (tenant.project, kind) not in self._story.defined:
            shape = _GRADED if kind == "categories" else _RANGED
            config = ScoreConfigDefined(config_id=kind, name="graded", **shape)
        request = pb.DefineScoreConfigRequest(config=config)
        claim = claim_of(Event(score_config_defined=config))

        def defined(_: Answer) -> None:
            if stays:
                self._story.defined.add((tenant.project, kind))

        return Operation(tenant, [claim], lambda secret: ask(self._scores.DefineScoreConfig, request, secret), defined)

    def _list(self, tenant: Tenant) -> Operation:
        """A page of scores must be the tenant's own."""
        request = pb.ListScoresRequest(page_size=100)

        async def attempt(secret: str) -> Answer:
            answer = await ask(self._scores.ListScores, request, secret)
            for score in answer.response.scores if answer.verdict == "acked" else ():
                if any(other.project in score.comment for other in self._tenants if other != tenant):
                    self._ledger.object("a project read what is another's", f"{tenant.project}: score {score}")
            return Answer("acked", code=answer.code, details=answer.details)  # a read is not tried again

        return Operation(tenant, [], attempt)


def claim_of(event: Event, *, valid: bool = True, **kept: Any) -> Claim:
    """What an event about scores claims, with what the gateway adds to it."""
    kind = str(event.WhichOneof("payload"))
    content = content_of(kind, getattr(event, kind).SerializeToString()) | kept
    return Claim(SCORES, kind, event.event_id, content, valid)


def _without_value(score: ScoreRecorded) -> None:
    score.ClearField("value")


def _not_a_number(score: ScoreRecorded) -> None:
    score.value.numeric = math.nan


def _two_targets(score: ScoreRecorded) -> None:
    score.target.CopyFrom(ScoreTarget(session_id="one", run_id="another"))


def _unknown_config(score: ScoreRecorded) -> None:
    score.config_id = "nobody's"


_SPOILERS = (_without_value, _not_a_number, _two_targets, _unknown_config)
