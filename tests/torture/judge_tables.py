"""The log against the read model: whether the projection kept its word."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tests.torture.findings import Finding, Kind
from tests.torture.fold import fold, parts_of, summarise
from tests.torture.log_reader import Log
from tests.torture.tables import Model
from tests.torture.wire import LogRecord

_WHOLE = -1


def judge_tables(log: Log, model: Model) -> Iterator[Finding]:
    """Every record is folded exactly once, says there what it says in the log, and every summary is of its spans."""
    yield from _records(log.records, model)
    yield from _letters(log.records, model)
    yield from _spans(log.records, model)
    yield from _summaries(model)


def judge_watched(samples: Iterable[Mapping[str, int]]) -> Iterator[Finding]:
    """Positions never go back."""
    highest: dict[str, int] = {}
    for sample in samples:
        for partition, offset in sample.items():
            if offset < highest.get(partition, 0):
                where = f"partition {partition}: from {highest[partition]} to {offset}"
                yield Finding(Kind.OUT_OF_PROMISE, "a position went back", where)
            highest[partition] = offset


def judge_positions(log: Log, model: Model, begin: Mapping[int, int]) -> Iterator[Finding]:
    """The fence stands at the log's end, once all is folded."""
    for partition, end in log.ends.items():
        row = model.positions.get(partition)
        at = row["next_offset"] if row else 0
        if row and row["halted_reason"]:
            yield Finding(Kind.OUT_OF_PROMISE, "a partition is halted", f"{partition} at {at}: {row['halted_reason']}")
        if at > end:
            yield Finding(
                Kind.OUT_OF_PROMISE, "a position beyond the log's end", f"partition {partition}: {at} > {end}"
            )
        for record in log.records:
            if record.partition == partition and record.offset >= max(at, begin.get(partition, 0)):
                yield Finding(Kind.LOST, "in the log, and not folded in time", f"record {partition}:{record.offset}")


def _records(records: Sequence[LogRecord], model: Model) -> Iterator[Finding]:
    """Readable ones are blocks, unreadable ones dead letters, both whole."""
    known = set()
    for record in records:
        at = record.partition, record.offset
        where = f"record {at[0]}:{at[1]}"
        if record.why:
            letter = model.letters.get((*at, _WHOLE))
            if letter is None:
                yield Finding(Kind.LOST, "unreadable, and no dead letter", f"{where}: {record.why}")
            elif letter["raw"] != record.raw:
                yield Finding(Kind.ALTERED, "a dead letter that is not what the log holds", where)
            continue
        known.add(at)
        block = model.blocks.get(at)
        if block is None:
            yield Finding(Kind.LOST, "in the log, and no block", where)
        elif (block["project_id"], block["digest"], block["span_count"]) != (
            record.project, hashlib.sha256(record.block).hexdigest(), len(record.spans),
        ):  # fmt: skip
            yield Finding(Kind.ALTERED, "a block that is not what the log holds", where)
    for at in model.blocks.keys() - known:
        yield Finding(Kind.INVENTED, "a block that the log does not hold", f"record {at[0]}:{at[1]}")


def _letters(records: Sequence[LogRecord], model: Model) -> Iterator[Finding]:
    good = {(record.partition, record.offset) for record in records if not record.why}
    for (partition, offset, item), letter in model.letters.items():
        if (partition, offset) in good:
            where = f"record {partition}:{offset}, item {item}: {letter['reason']}"
            yield Finding(Kind.OUT_OF_PROMISE, "a good span or record became a dead letter", where)


def _spans(records: Sequence[LogRecord], model: Model) -> Iterator[Finding]:
    expected = fold(records)
    for key, columns in expected.items():
        row = model.spans.get(key)
        where = "/".join(key)
        if row is None:
            yield Finding(Kind.LOST, "in the log, and no row", where)
            continue
        found = {**{name: row[name] for name in columns if name != "parts"}, "parts": parts_of(row)}
        if different := [
            f"{name}: {found[name]!r} for {columns[name]!r}" for name in columns if found[name] != columns[name]
        ]:
            yield Finding(Kind.ALTERED, "a row that is not what the log tells", f"{where}: {'; '.join(different)}")
    for key in model.spans.keys() - expected.keys():
        yield Finding(Kind.INVENTED, "a row that the log does not tell of", "/".join(key))


def _summaries(model: Model) -> Iterator[Finding]:
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for (project, trace, _, _), row in model.spans.items():
        rows[project, trace].append(row)
    for key, its in rows.items():
        stored, where = model.traces.get(key), "/".join(key)
        if stored is None:
            yield Finding(Kind.LOST, "spans, and no summary of their trace", where)
            continue
        columns = summarise(its)
        if stored["span_count"] > columns["span_count"]:
            where = f"{where}: {stored['span_count']} for {columns['span_count']}"
            yield Finding(Kind.DUPLICATED, "spans counted more than once", where)
            continue
        if different := [
            f"{name}: {stored[name]!r} for {columns[name]!r}" for name in columns if stored[name] != columns[name]
        ]:
            what = "a summary that is not of its spans"
            yield Finding(Kind.OUT_OF_PROMISE, what, f"{where}: {'; '.join(different)}")
    for key in model.traces.keys() - rows.keys():
        yield Finding(Kind.INVENTED, "a summary without spans", "/".join(key))
