"""Any order, any duplication, any batching of the same records gives the same tables."""

import random
from collections.abc import Sequence
from functools import partial

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from shared.event_log.codec import LogRecord
from tests.support.projecting import batches, projecting
from tests.support.records import Value, record, span
from tests.support.sessions import sessions_that_must_be

KINDS = ("LLM", "RETRIEVER", "TOOL", "CHAIN")


def tellings(choose: random.Random) -> list[Span]:
    """Spans of a few traces, some told several times: at their start, at their end, corrected, or sent again."""
    told = []
    for trace in range(1, 4):
        for number in range(1, choose.randint(3, 7)):
            tell = partial(span, trace, number, parent=None if number == 1 else 1, start_ms=choose.randint(0, 50))
            attributes: dict[str, Value] = {
                "openinference.span.kind": choose.choice(KINDS),
                "llm.model_name": choose.choice(["a", "b"]),
                "llm.token_count.prompt": choose.randint(1, 100),
                "user.id": choose.choice(["é", "Z", "a"]),
                "session.id": choose.choice(["s1", "S2"]),
                "tag.tags": choose.choice(["x", "y"]),
            }
            ended = tell(name="ended", end_ms=50 + choose.randint(0, 20), attributes=attributes)
            told += choose.choice(
                [
                    [ended],
                    [tell(end_ms=None), ended],
                    [ended, ended],
                    [ended, tell(name="corrected", end_ms=80), ended],
                ]
            )
    return told


def records_of(told: Sequence[Span], choose: random.Random) -> list[LogRecord]:
    """One record a partition, so that any order of folding is one that could happen."""
    told = list(told)
    choose.shuffle(told)
    requests = batches(told, [choose.randint(1, 6) for _ in range(5)])
    return [record(request, partition=n, project=choose.choice(["p", "q"])) for n, request in enumerate(requests)]


@pytest.mark.parametrize("seed", range(8))
async def test_the_tables_do_not_depend_on_the_order(database, seed: int) -> None:
    choose = random.Random(seed)
    records = records_of(tellings(choose), choose)
    async with projecting(database) as projection:
        await projection.fold(*records)
        expected = await projection.dump()
        assert expected["traces"]
        assert expected["sessions"] == await sessions_that_must_be(projection.pool)
        for _ in range(6):
            await projection.empty()
            shuffled = [*records, *choose.choices(records, k=3)]
            choose.shuffle(shuffled)
            for batch in batches(shuffled, [choose.randint(1, 5) for _ in range(4)]):
                await projection.fold(*batch)
            assert await projection.dump() == expected
            assert await projection.count("dead_letters") == 0
