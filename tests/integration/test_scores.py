"""The whole way of a score: recorded at the gateway, folded, read; configs kept to; projects apart."""

from typing import Any

import grpc
import pytest
from lodestream_proto.v1 import scores_pb2 as pb
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.ingest_pb2 import EVENT_OUTCOME_ACCEPTED, EVENT_OUTCOME_REFUSED, RecordResponse
from lodestream_proto.v1.score_event_pb2 import (
    SCORE_SOURCE_ANNOTATION,
    SCORE_SOURCE_EVALUATOR,
    SCORE_TYPE_CATEGORICAL,
    ScoreCategory,
    ScoreConfigDefined,
    ScoreTarget,
)

from tests.support.gateway import refusal
from tests.support.records import span
from tests.support.scores import config, retraction, score, score_event, trace
from tests.support.stack import Stack, waiting

ACCEPTED, REFUSED = EVENT_OUTCOME_ACCEPTED, EVENT_OUTCOME_REFUSED
CATEGORIES = [ScoreCategory(label="bad", value=-1), ScoreCategory(label="good", value=3)]


def numbered(*payloads: Any, first: int = 1) -> list[Event]:
    """Events, each a second later than the one before."""
    return [score_event(payload, number=n, at_s=n) for n, payload in enumerate(payloads, first)]


async def listed(stack: Stack, position: str = "", *, project: str = "acme", **options: Any) -> list[pb.Score]:
    request = pb.ListScoresRequest(filter=pb.ScoreFilter(**options), wait_for=waiting(position))
    answer: pb.ListScoresResponse = await stack.scores.ListScores(request, metadata=stack.metadata(project), timeout=15)
    return list(answer.scores)


async def history(stack: Stack, score_id: str, project: str = "acme") -> list[pb.Score]:
    request = pb.GetScoreHistoryRequest(score_id=score_id)
    answer = await stack.scores.GetScoreHistory(request, metadata=stack.metadata(project), timeout=15)
    return list(answer.scores)


async def define(stack: Stack, told: ScoreConfigDefined, *, project: str = "acme") -> pb.DefineScoreConfigResponse:
    request = pb.DefineScoreConfigRequest(config=told)
    answer: pb.DefineScoreConfigResponse = await stack.scores.DefineScoreConfig(
        request, metadata=stack.metadata(project), timeout=15
    )
    return answer


def outcomes(answer: RecordResponse) -> list[int]:
    return [result.outcome for result in answer.results]


async def test_a_newer_score_supersedes_and_all_of_it_is_kept(stack: Stack) -> None:
    first = score("s", 0.2, source=SCORE_SOURCE_EVALUATOR, author="judge", evaluator_version="v1", comment="meh")
    second = score("s", 0.9, source=SCORE_SOURCE_ANNOTATION, author="ada", target=trace(1, 2), metadata_json='{"a":1}')
    answer = await stack.record(*numbered(first, second)[::-1])
    assert outcomes(answer) == [ACCEPTED, ACCEPTED]
    (now,) = await listed(stack, answer.position)
    assert (now.value.numeric, now.author, now.source) == (0.9, "ada", SCORE_SOURCE_ANNOTATION)
    assert (now.target, now.metadata_json, now.superseded) == (trace(1, 2), '{"a":1}', False)
    newest, oldest = await history(stack, "s")
    assert (newest.superseded, oldest.superseded) == (False, True)
    assert (oldest.value.numeric, oldest.author, oldest.evaluator_version) == (0.2, "judge", "v1")

    answer = await stack.record(*numbered(retraction("s", reason="wrong trace"), first=3))
    assert await listed(stack, answer.position) == []
    gone, *_ = await history(stack, "s")
    assert (gone.retracted, gone.retraction_reason, gone.HasField("value")) == (True, "wrong trace", False)
    answer = await stack.record(*numbered(score("s", 0.5), first=4))
    assert [found.value.numeric for found in await listed(stack, answer.position)] == [0.5]
    assert len(await history(stack, "s")) == 4


async def test_the_same_event_again_is_one(stack: Stack) -> None:
    events = numbered(score("", 0.5), score("b", 0.5))
    await stack.record(*events)
    answer = await stack.record(*events)
    found = await listed(stack, answer.position)
    assert {one.score_id for one in found} == {events[0].event_id, "b"}, "without a score id the event's is taken"
    assert len(await history(stack, "b")) == 1


async def test_projects_neither_see_nor_supersede_each_other(stack: Stack) -> None:
    mine = await stack.record(*numbered(score("same", 1.0)))
    theirs = await stack.record(*numbered(score("same", 0.0), first=5), project="other")
    assert [one.value.numeric for one in await listed(stack, theirs.position)] == [1.0]
    assert [one.value.numeric for one in await listed(stack, mine.position, project="other")] == [0.0]
    assert len(await history(stack, "same")) == 1
    await define(stack, config("mine", min_value=0.0))
    answer = await stack.record(*numbered(score("x", 1.0, config_id="mine"), first=9), project="other")
    assert (answer.results[0].outcome, answer.results[0].field) == (REFUSED, "score_recorded.config_id")
    error = await refusal(history(stack, "nobody's"))
    assert error.code() == grpc.StatusCode.NOT_FOUND


async def test_bad_scores_are_refused_by_name_and_the_others_of_the_batch_are_stored(stack: Stack) -> None:
    await define(stack, config("range", min_value=0, max_value=1))
    answer = await stack.record(
        *numbered(
            score("1", 0.5, config_id="range"),
            score("2", float("nan")),
            score("3", 7.0, config_id="range"),
            score("4", 7.0, config_id="unknown"),
            score("5", value=True),
        )
    )
    assert outcomes(answer) == [ACCEPTED, REFUSED, REFUSED, REFUSED, ACCEPTED]
    assert [result.field for result in answer.results] == [
        "",
        "score_recorded.value.numeric",
        "score_recorded.value.numeric",
        "score_recorded.config_id",
        "",
    ]
    assert "config 'range'" in answer.results[2].reason
    assert {one.score_id for one in await listed(stack, answer.position)} == {"1", "5"}


async def test_a_config_is_kept_to_as_soon_as_it_is_defined_changed_or_archived(stack: Stack) -> None:
    told = config("", name="tone", type=SCORE_TYPE_CATEGORICAL, categories=CATEGORIES)
    defined = (await define(stack, told)).config
    assert defined.config_id
    named = score("s", "good", name="", config_id=defined.config_id)
    answer = await stack.record(*numbered(named))
    (found,) = await listed(stack, answer.position, min_value=3, max_value=3)
    assert (found.name, found.value.categorical) == ("tone", "good")

    defined.categories.append(ScoreCategory(label="splendid", value=5))
    await define(stack, defined)
    better = score("s2", "splendid", name="tone", config_id=defined.config_id)
    answer = await stack.record(*numbered(better, first=2))
    assert outcomes(answer) == [ACCEPTED]

    defined.archived = True
    await define(stack, defined)
    answer = await stack.record(*numbered(named, first=3))
    assert answer.results[0].reason.endswith("is archived")
    request = pb.ListScoreConfigsRequest()
    assert not (await stack.scores.ListScoreConfigs(request, metadata=stack.metadata(), timeout=15)).configs
    request = pb.ListScoreConfigsRequest(with_archived=True)
    configs = (await stack.scores.ListScoreConfigs(request, metadata=stack.metadata(), timeout=15)).configs
    assert list(configs) == [defined]


async def test_a_config_that_cannot_be_is_refused(stack: Stack) -> None:
    error = await refusal(define(stack, config("c", min_value=1, max_value=0)))
    assert (error.code(), error.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "config.max_value: 0 is not above min_value, 1",
    )


FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({"trace_ids": [(1).to_bytes(16, "big").hex()]}, {"on trace", "on span"}),
    ({"span_ids": [(2).to_bytes(8, "big").hex()]}, {"on span"}),
    ({"session_ids": ["chat"]}, {"on session"}),
    ({"run_ids": ["run"]}, {"on run"}),
    ({"names": ["quality", "tone"], "min_value": 0.5}, {"on span", "on run"}),
    ({"sources": [SCORE_SOURCE_EVALUATOR]}, {"on run"}),
    ({"authors": ["ada"]}, {"on session"}),
    ({"environments": ["test"]}, {"on span"}),
    ({"categories": ["good"]}, {"on session"}),
    ({"max_value": 0.25}, {"on trace"}),
    ({"scored_from": numbered(score("x"), first=3)[0].occurred_at}, {"on session", "on run"}),
    ({"scored_before": numbered(score("x"), first=2)[0].occurred_at}, {"on trace"}),
]


async def test_lists_answer_to_every_filter_and_go_on_page_by_page(stack: Stack) -> None:
    answer = await stack.record(
        *numbered(
            score("on trace", 0.25),
            score("on span", value=True, target=trace(1, 2), environment="test"),
            score("on session", "good", name="tone", target=ScoreTarget(session_id="chat"), author="ada"),
            score("on run", 0.5, target=ScoreTarget(run_id="run"), source=SCORE_SOURCE_EVALUATOR),
        )
    )
    await listed(stack, answer.position)
    for wanted, expected in FILTERS:
        assert {one.score_id for one in await listed(stack, **wanted)} == expected, wanted
    seen, token = [], ""
    for _ in range(3):
        request = pb.ListScoresRequest(page_size=2, page_token=token)
        page = await stack.scores.ListScores(request, metadata=stack.metadata(), timeout=15)
        seen += [one.score_id for one in page.scores]
        if not (token := page.next_page_token):
            break
    assert seen == ["on run", "on session", "on span", "on trace"]


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("filter.trace_ids", {"trace_ids": ["xyz"]}),
        ("filter.names", {"names": ["a\0"]}),
        ("filter.names", {"names": ["a"] * 101}),
        ("filter.sources", {"sources": [77]}),
        ("filter.min_value", {"min_value": float("nan")}),
    ],
)
async def test_a_filter_that_cannot_be_is_refused_by_name(stack: Stack, field: str, wanted: dict[str, Any]) -> None:
    error = await refusal(listed(stack, **wanted))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith(field)


async def test_a_trace_shows_its_scores_and_its_spans_show_theirs(stack: Stack) -> None:
    answer = await stack.record(
        *numbered(score("a", 0.25), score("b", 0.75, target=trace(1, 2)), score("c", "good", name="tone"))
    )
    await listed(stack, answer.position)  # a score may come before its trace
    position = await stack.export(span(1, 1), span(1, 2, parent=1))
    found = await stack.get(1, wait_for=waiting(position))
    assert [one.score_id for one in found.scores] == ["a", "c"]
    assert [[one.score_id for one in shown.scores] for shown in found.spans] == [[], ["b"]]
    columns = {column.name: column for column in found.trace.scores}
    assert (columns["quality"].count, columns["quality"].average) == (2, 0.5)
    assert (columns["tone"].HasField("average"), dict(columns["tone"].categories)) == (False, {"good": 1})


async def test_aggregates_by_name_and_time_prompt_version_and_release(stack: Stack) -> None:
    prompt: dict[str, Any] = {"langfuse.observation.prompt.name": "greet", "langfuse.observation.prompt.version": 3}
    first = span(1, 2, parent=1, attributes={"langfuse.observation.type": "generation", **prompt})
    traces = await stack.export(span(1, 1, attributes={"langfuse.release": "r1"}), first, span(2, 1))
    events = numbered(
        score("a", 0.0), score("b", 1.0, target=trace(1, 2)), score("c", 0.5, target=trace(2)),
        score("d", "good", name="tone"), score("e", "bad", name="tone"), score("f", "good", name="tone"),
    )  # fmt: skip
    events.append(score_event(score("g", 8.0, target=trace(2)), number=99, at_s=86_400))
    position = (await stack.record(*events)).position

    async def groups(grouping: Any, **wanted: Any) -> dict[tuple[str, str], pb.ScoreGroup]:
        request = pb.AggregateScoresRequest(
            filter=pb.ScoreFilter(**wanted), grouping=grouping, wait_for=waiting(f"{position},{traces}")
        )
        answer = await stack.scores.AggregateScores(request, metadata=stack.metadata(), timeout=15)
        return {(group.name, group.key): group for group in answer.groups}

    by_day = await groups(pb.SCORE_GROUPING_DAY)
    assert set(by_day) == {
        ("quality", "2026-05-06T00:00:00Z"),
        ("quality", "2026-05-07T00:00:00Z"),
        ("tone", "2026-05-06T00:00:00Z"),
    }
    today = by_day["quality", "2026-05-06T00:00:00Z"]
    assert (today.count, today.average, today.minimum, today.maximum, today.median) == (3, 0.5, 0.0, 1.0, 0.5)
    tones = by_day["tone", "2026-05-06T00:00:00Z"]
    assert (tones.count, tones.HasField("average"), dict(tones.categories)) == (3, False, {"good": 2, "bad": 1})
    by_hour = await groups(pb.SCORE_GROUPING_HOUR, names=["tone"])
    assert set(by_hour) == {("tone", "2026-05-06T12:00:00Z")}
    whole = await groups(pb.SCORE_GROUPING_UNSPECIFIED, names=["quality"])
    assert whole["quality", ""].count == 4
    by_prompt = await groups(pb.SCORE_GROUPING_PROMPT_VERSION)
    assert {key: group.count for key, group in by_prompt.items()} == {("quality", "greet:3"): 2, ("tone", "greet:3"): 3}
    by_release = await groups(pb.SCORE_GROUPING_RELEASE, names=["quality"])
    assert {key: group.count for (_, key), group in by_release.items()} == {"r1": 2, "": 2}
