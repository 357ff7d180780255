"""Scores at the gateway alone: what is then in the log, and what is said while configs can't be read."""

import grpc
from lodestream_proto.v1 import scores_pb2 as pb
from lodestream_proto.v1.event_pb2 import Event
from lodestream_proto.v1.ingest_pb2 import EVENT_OUTCOME_ACCEPTED, EVENT_OUTCOME_REFUSED, RecordRequest
from lodestream_proto.v1.prompt_event_pb2 import PromptArchived
from lodestream_proto.v1.scores_pb2_grpc import ScoreServiceStub

from shared.event_log.topics import SCORES, TRACES
from tests.support.gateway import MODULE, Door, new_key, opened, refusal, retry_delay
from tests.support.records import event, span
from tests.support.scores import config, retraction, score, score_event


async def record(door: Door, *events: Event):
    return await door.ingest.Record(RecordRequest(events=events), metadata=door.bearer, timeout=15)


async def test_scores_spans_and_strays_of_one_request_go_their_ways(servers, database, service) -> None:
    key = await new_key(database)
    gateway = await service(MODULE, LODESTREAM_POSTGRES=database)
    async with opened(gateway.address, key, dsn=database, kafka=servers.kafka) as door:
        told = score_event(score("s", "good", category_value=9.0), number=1, project="somebody-else")
        stray = Event(prompt_archived=PromptArchived())
        answer = await record(door, event([span(1, 1)]), told, stray)
        accepted, refused = EVENT_OUTCOME_ACCEPTED, EVENT_OUTCOME_REFUSED
        assert [result.outcome for result in answer.results] == [accepted, accepted, refused]
        by_topic = {found.topic: found for found in await door.at(answer.position)}
        assert set(by_topic) == {SCORES, TRACES}
        kept = by_topic[SCORES].event
        assert kept is not None
        assert (kept.project_id, kept.event_id) == ("acme", told.event_id)
        assert kept.score_recorded == score("s", "good"), "a category's value is its config's alone"

        # Whatever is said of one target comes one after the other.
        partitions = set()
        said = [score_event(score("a"), number=2), score_event(retraction("a"), number=3)]
        for one in (*said, score_event(score("b"), number=4)):
            (found,) = await door.at((await record(door, one)).position)
            partitions.add(found.partition)
        assert len(partitions) == 1


async def test_without_postgres_scores_without_a_config_are_taken_and_none_goes_unchecked(
    servers, private_postgres, service
) -> None:
    postgres = await private_postgres()
    key = await new_key(postgres.command.address)
    gateway = await service(MODULE, LODESTREAM_POSTGRES=postgres.command.address)
    async with opened(gateway.address, key, kafka=servers.kafka) as door:
        await record(door, score_event(score("s"), number=1))  # the key is remembered
        postgres.kill()
        await postgres.ended()
        answer = await record(door, score_event(score("s"), number=2))
        assert answer.results[0].outcome == EVENT_OUTCOME_ACCEPTED
        named = score_event(score("s", config_id="c"), number=3)
        error = await refusal(record(door, score_event(score("s"), number=4), named))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert "score configs can't be read" in (error.details() or "")
        assert retry_delay(error) >= 5


async def test_a_config_that_nobody_can_read_yet_is_told_with_its_place(servers, database, service) -> None:
    """No query service answers: the log has the config all the same."""
    key = await new_key(database)
    gateway = await service(MODULE, LODESTREAM_POSTGRES=database, LODESTREAM_QUERY="127.0.0.1:9")
    async with opened(gateway.address, key, kafka=servers.kafka) as door:
        stub = ScoreServiceStub(door.channel)
        request = pb.DefineScoreConfigRequest(config=config("c"))
        error = await refusal(stub.DefineScoreConfig(request, metadata=door.bearer, timeout=2))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        place = (error.details() or "").partition("config c at ")[2].partition(",")[0]
        (found,) = await door.at(place)
        assert found.event is not None
        assert found.event.score_config_defined == config("c")
