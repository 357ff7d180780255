"""Builds that are broken on purpose: `python -m tests.torture.mutants NAME -- services.write.gateway` runs one.

NAME may be several, joined with "+".

Each breaks one promise in the running product, by replacing a function before it starts. The checker has to catch them
all; what it can't catch, it does not prove.
"""

import asyncio
import runpy
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

_FORGET_BLOCKS = 'DELETE FROM span_blocks WHERE partition = $1 AND "offset" = ANY ($2::bigint[])'
_WHEN_IT_COMES_TO_IT = 0.2  # seconds


def replace(owner: Any, name: str, broken: Callable[..., Any]) -> None:
    """What is replaced must be there: a mutant of yesterday's code would prove nothing."""
    assert callable(getattr(owner, name))
    setattr(owner, name, broken)


def rewrite(owner: Any, name: str, before: str, after: str) -> None:
    """The same for a statement of which one part is replaced."""
    statement: str = getattr(owner, name)
    assert before in statement
    setattr(owner, name, statement.replace(before, after))


async def nothing(*_: object) -> None:
    """Done."""


def unbroken() -> None:
    """The product, with one more failpoint: `projection.handed_over`, after the poll and before the fence."""
    from shared.projection import progress, projector
    from shared.runtime.failpoints import failpoint

    @asynccontextmanager
    async def fence(pool: Any, projection: str, run: Sequence[Any], **options: Any) -> AsyncIterator[Any]:
        await failpoint("projection.handed_over")
        async with progress.fence(pool, projection, run, **options) as fenced:
            yield fenced

    replace(projector, "fence", fence)


def no_fence() -> None:
    """Whatever is handed over is folded, again if it was folded before, and the position is set to its end."""
    from shared.projection import progress, projector
    from shared.runtime.failpoints import failpoint

    @asynccontextmanager
    async def unfenced(pool: Any, projection: str, run: Sequence[Any], **_: object) -> AsyncIterator[Any]:
        await failpoint("projection.handed_over")
        async with pool.acquire() as connection, connection.transaction():
            topic, partition, offsets = run[0].topic, run[0].partition, [record.offset for record in run]
            await connection.execute(_FORGET_BLOCKS, partition, offsets)
            yield progress.Fenced(connection, run)
            await connection.execute(progress._BEGIN, projection, topic, partition)
            await connection.execute(
                progress._ADVANCE, projection, topic, partition, offsets[-1] + 1, run[-1].appended_at
            )

    replace(projector, "fence", unfenced)


def commit_before_write() -> None:
    """The position is committed first, the rows in a transaction after it."""
    from shared.projection import progress, projector

    @asynccontextmanager
    async def early(pool: Any, projection: str, run: Sequence[Any], **options: Any) -> AsyncIterator[Any]:
        async with progress.fence(pool, projection, run, **options) as fenced:
            fresh = fenced.fresh
        async with pool.acquire() as connection, connection.transaction():
            yield progress.Fenced(connection, fresh)

    replace(projector, "fence", early)


def skip_failed_batches() -> None:
    """A batch that fails is logged and passed over."""
    from shared.projection import progress, projector

    commit = projector.Projector._commit_or_isolate

    async def commit_or_skip(self: Any, partition: Any, run: Sequence[Any]) -> None:
        try:
            await commit(self, partition, run)
        except (progress.HaltError, progress.SkippedError):
            raise
        except Exception:
            async with progress.fence(self._pool, "traces", run):
                pass

    replace(projector.Projector, "_commit_or_isolate", commit_or_skip)


def merge_by_arrival() -> None:
    """Of several revisions of a span, the one that came last wins."""
    from services.projections.traces import fold

    distinct = fold._distinct
    replace(fold, "_distinct", lambda revisions: sorted(distinct(revisions), key=lambda revision: revision.ref))


def count_again() -> None:
    """A span of which another revision comes is added to its trace's summary again."""
    from services.projections.traces import merge
    from services.projections.traces.summary import summarise

    def count_whole(_was: Any, now: Any) -> Any:
        (summary,) = summarise([now])
        return summary

    replace(merge, "change", count_whole)


def drop_dead_letters() -> None:
    """What can't be folded is passed over in silence."""
    from services.projections.traces import projection

    replace(projection, "set_aside", nothing)


def ack_before_append() -> None:
    """The gateway answers at once and appends when it comes to it."""
    from shared.event_log import append as appending
    from shared.event_log.position import Position

    append, later = appending.Appender.append, set[asyncio.Task[None]]()

    async def append_later(self: Any, records: Sequence[Any], *, within: float) -> list[Position]:
        async def do() -> None:
            await asyncio.sleep(_WHEN_IT_COMES_TO_IT)
            await append(self, records, within=within)

        task = asyncio.create_task(do())
        later.add(task)
        task.add_done_callback(later.discard)
        return [Position(record.topic, 0, 0) for record in records]

    replace(appending.Appender, "append", append_later)


def forget_before_ack() -> None:
    """The SDK takes spans out of its spool when it begins to deliver them."""
    from lodestream._delivery import exporter

    def handle(self: Any, batch: Any) -> None:
        self._spool.settle(batch, dropped=0)
        self._deliver(batch.payloads, batch.spans)

    replace(exporter.Exporter, "_handle", handle)


def supersede_by_arrival() -> None:
    """Of several events of a score the one that came last holds."""
    from services.projections.scores import tables

    newer = "(excluded.scored_at, excluded.event_id) > (present.scored_at, present.event_id)"
    rewrite(tables, "_SUPERSEDE", newer, "excluded.event_id <> present.event_id")


def ignore_expected_revision() -> None:
    """A move of a label is carried out also when the prompt has changed since."""
    from services.projections.prompts import decide

    demand = decide._demand
    replace(decide, "_demand", lambda prompt, payload=None: demand(prompt))


def tell_redis_once() -> None:
    """Of each prompt Redis is told the first revision, and the outbox is emptied all the same."""
    from shared.storage.prompt_cache import Offered, PromptCache

    offer = PromptCache.offer

    async def offer_first(self: Any, heads: Mapping[Any, Any]) -> dict[Any, Offered]:
        first = {place: (head, ticket) for place, (head, ticket) in heads.items() if head.revision <= 1}
        outcomes = await offer(self, first) if first else {}
        return {place: outcomes.get(place, Offered.TAKEN) for place in heads}

    replace(PromptCache, "offer", offer_first)


def store_results_again() -> None:
    """A result that is told again is counted again, and the last one holds."""
    from services.projections.experiments import decide, runs, tables

    decide_run, copy = runs.decide_run, tables._copy

    async def overwrite(connection: Any, table: str, columns: Sequence[str], rows: Sequence[Any]) -> None:
        last = {row[:5] if table == "experiment_evaluations" else row[:4]: row for row in rows}
        if table in {"experiment_items", "experiment_evaluations"}:
            keys = columns[: len(next(iter(last)))] if last else ()
            place = " AND ".join(f"{key} = ${n}" for n, key in enumerate(keys, 1))
            for key in last:
                await connection.execute(f"DELETE FROM {table} WHERE {place}", *key)
            rows = list(last.values())
        await copy(connection, table, columns, rows)

    def decide_again(run: Any, payload: Any, at: Any, *, is_known: bool = False) -> Any:
        return decide_run(run, payload, at)

    replace(decide, "decide_run", decide_again)
    replace(tables, "_copy", overwrite)


def forget_item_versions() -> None:
    """Of an item of a dataset only what holds now is kept."""
    from services.projections.experiments import tables

    before = "UPDATE dataset_items AS present SET until_version = ended.version\nFROM ("
    rewrite(tables, "_END_ITEMS", before, "DELETE FROM dataset_items AS present USING (")


def halt_for_one_project() -> None:
    """A partition halts for a hundred bad items, whoever's they are."""
    from shared.projection.breaker import Breaker

    after = Breaker.after

    def after_any(self: Any, outcomes: Iterable[Any]) -> Breaker:
        listed = list(outcomes)
        later: Any = after(self, listed)
        later.bad_in_all = getattr(self, "bad_in_all", 0) + sum(outcome.bad for outcome in listed)
        if later.bad_in_all > 100:
            later.tripped = "too much could not be folded"
        breaker: Breaker = later
        return breaker

    replace(Breaker, "after", after_any)


MUTANTS: Mapping[str, Callable[[], None]] = {
    mutant.__name__.replace("_", "-"): mutant
    for mutant in (
        no_fence, commit_before_write, skip_failed_batches, merge_by_arrival, count_again, drop_dead_letters,
        ack_before_append, forget_before_ack, supersede_by_arrival,
        ignore_expected_revision, tell_redis_once, store_results_again, forget_item_versions, halt_for_one_project,
    )
}  # fmt: skip


def main() -> None:
    name, separator, module, *arguments = sys.argv[1:]
    assert separator == "--", __doc__
    for each in name.split("+"):
        (unbroken if each == "unbroken" else MUTANTS[each])()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
