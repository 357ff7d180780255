"""What was told of a span, once or several times, as one row: a pure function of the set of its tellings."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import TypeVar

from lodestream_proto.v1.trace_pb2 import LEVEL_DEFAULT, SPAN_TYPE_SPAN

from services.projections.traces.folding.rows import Part, SpanKey, SpanRow
from shared.read_model.blocks import ReceivedSpan
from shared.read_model.dialects import SpanColumns, read_columns
from shared.read_model.dialects.usage import totals
from shared.read_model.dialects.values import AMOUNT, MAX_PICOS, MAX_TOKENS, TIME, Cleaner
from shared.read_model.pricing import cost_of, total_cost

_DAY_US = 86_400_000_000
_MIN_START_US = _DAY_US  # a clock that was never set tells the first day of 1970
_MOST_SANITIZED = 2**15 - 1
_NO_PARENT = bytes(8)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_FIELDS = tuple(field.name for field in fields(SpanColumns) if field.name not in {"as_root", "changes"})
Value = TypeVar("Value")


MAX_TELLINGS = 64
"""Different tellings of one span that count; two are usual, that it began and that it ended."""
_EARLIEST = 16


class PoisonedSpanError(ValueError):
    """A span that no row can hold; the message says why."""


@dataclass(slots=True)
class Version:
    """One telling of a span, its clock brought within reason."""

    part: Part
    source: ReceivedSpan
    trace_id: bytes
    span_id: bytes
    start_us: int
    end_us: int | None
    clamped: int

    def key(self, project_id: str) -> SpanKey:
        """The span this tells of."""
        day = date.fromordinal(_EPOCH_ORDINAL + self.start_us // _DAY_US)
        return project_id, self.trace_id, self.span_id, day


def version(part: Part, source: ReceivedSpan) -> Version:
    """A telling, its times brought within reason.

    A start outside of 1970-01-02 … a day after it was received becomes the time it was received; an end before the
    start becomes the start, one out of range the time received.

    Raises PoisonedSpanError for ids that are none.
    """
    span = source.span
    trace_id, span_id = span.trace_id, span.span_id
    if len(trace_id) != 16 or len(span_id) != 8:
        raise PoisonedSpanError("trace_id must have 16 bytes and span_id 8")
    latest, clamped = part.received_at_us + _DAY_US, 0
    start = span.start_time_unix_nano // 1000
    if not _MIN_START_US <= start <= latest:
        start, clamped = part.received_at_us, 1
    end: int | None = None
    if end_ns := span.end_time_unix_nano:
        told = end_ns // 1000
        end = max(start, told if told <= latest else part.received_at_us)
        clamped += end != told
    return Version(part, source, trace_id, span_id, start, end, clamped)


@dataclass(slots=True)
class Telling:
    """What counts of a version when there are several of a span: small, whatever the span's content is."""

    part: Part
    revision: tuple[int, bytes]
    """Event time, and a digest of all that is told: what makes two tellings the same, and which of two is the later."""
    start_us: int
    end_us: int | None
    parent: bytes | None
    facts: SpanColumns


def telling(version: Version) -> Telling:
    """What counts of a version, without its source."""
    facts = read_columns(version.source)
    if version.clamped:
        Cleaner(facts.changes).count(TIME, version.clamped)
    moment = version.start_us if version.end_us is None else version.end_us
    return Telling(
        version.part,
        (moment, _digest(version.source)),
        version.start_us,
        version.end_us,
        _parent(version),
        facts,
    )


def fold(key: SpanKey, versions: Sequence[Version], changes: Counter[str] | None = None) -> SpanRow:
    """The row of a span. Order and repetition of the versions do not matter; there must be at least one.

    What had to be cleaned is added to `changes`, by kind.
    """
    if len(versions) > 1:
        return fold_tellings(key, map(telling, versions), changes)
    (only,) = versions
    facts, parent = read_columns(only.source), _parent(only)
    if only.clamped:
        Cleaner(facts.changes).count(TIME, only.clamped)
    row = _row(
        key,
        facts,
        start_us=only.start_us,
        end_us=only.end_us,
        parent=parent,
        is_root=parent is None or facts.as_root,
        parts=(only.part,),
    )
    if facts.changes and changes is not None:
        changes.update(facts.changes)
    return row


def fold_tellings(key: SpanKey, tellings: Iterable[Telling], changes: Counter[str] | None = None) -> SpanRow:
    """The row of a span that was told several times. Of more than MAX_TELLINGS different tellings the earliest and the
    latest count: by what they tell and not by where, so that it makes no difference in how many steps they come.
    """
    in_order = _distinct(tellings)
    if len(in_order) > MAX_TELLINGS:
        in_order = in_order[:_EARLIEST] + in_order[_EARLIEST - MAX_TELLINGS :]
    facts, parent = _merge([each.facts for each in in_order]), _last(each.parent for each in reversed(in_order))
    row = _row(
        key,
        facts,
        start_us=in_order[-1].start_us,
        end_us=_last(each.end_us for each in reversed(in_order)),
        parent=parent,
        is_root=parent is None or any(each.facts.as_root for each in in_order),
        parts=tuple(sorted(each.part for each in in_order)),
    )
    if changes is not None:
        changes.update(facts.changes)
    return row


def _distinct(tellings: Iterable[Telling]) -> list[Telling]:
    """Equal tellings once, at their smallest part, in the order of their revisions."""
    smallest: dict[tuple[int, bytes], Telling] = {}
    for each in sorted(tellings, key=lambda telling: telling.part):
        smallest.setdefault(each.revision, each)
    return [smallest[revision] for revision in sorted(smallest)]


def _digest(source: ReceivedSpan) -> bytes:
    origin = source.origin
    digest = hashlib.blake2b(digest_size=16)
    for text in (
        source.span.SerializeToString(deterministic=True),
        origin.resource.SerializeToString(deterministic=True),
        origin.scope.SerializeToString(deterministic=True),
        origin.sdk_name.encode(),
        origin.sdk_version.encode(),
    ):
        digest.update(len(text).to_bytes(8, "big"))
        digest.update(text)
    return digest.digest()


def _parent(version: Version) -> bytes | None:
    parent: bytes = version.source.span.parent_span_id
    return parent if len(parent) == 8 and parent != _NO_PARENT else None


def _last(backwards: Iterable[Value | None]) -> Value | None:
    """Nothing beats a value with silence."""
    return next((value for value in backwards if value is not None), None)


def _row(
    key: SpanKey,
    facts: SpanColumns,
    *,
    start_us: int,
    end_us: int | None,
    parent: bytes | None,
    is_root: bool,
    parts: tuple[Part, ...],
) -> SpanRow:
    usage = facts.usage
    cost = facts.cost or cost_of(facts.model, usage, facts.changes)
    sent, produced, total = totals(usage) if usage else (0, 0, 0)
    picos = total_cost(cost) if cost else 0
    if sent > MAX_TOKENS or produced > MAX_TOKENS or total > MAX_TOKENS or picos > MAX_PICOS:
        clean = Cleaner(facts.changes)
        sent, produced, total = [_at_most(MAX_TOKENS, tokens, clean) for tokens in (sent, produced, total)]
        picos = _at_most(MAX_PICOS, picos, clean)
    sanitized = sum(facts.changes.values()) if facts.changes else 0
    project_id, trace_id, span_id, start_day = key
    # By position: 35 keywords took six times as long, a tenth of project(). The order is that of SpanRow.
    return SpanRow(
        project_id, start_day, trace_id, span_id, parent, is_root,
        facts.name or "", facts.type or SPAN_TYPE_SPAN, facts.level or LEVEL_DEFAULT, facts.status_message,
        start_us, None if end_us is None else max(start_us, end_us), facts.first_token_us,
        facts.model, facts.provider, usage, cost,
        sent, produced, total, picos,
        facts.prompt_name, facts.prompt_version, facts.trace_name, facts.user_id, facts.session_id, facts.tags,
        facts.environment, facts.release, facts.version, facts.sdk,
        facts.input_preview, facts.output_preview, min(sanitized, _MOST_SANITIZED), parts,
    )  # fmt: skip


def _at_most(most: int, amount: int, clean: Cleaner) -> int:
    if amount <= most:
        return amount
    clean.count(AMOUNT)
    return most


def _merge(told: Sequence[SpanColumns]) -> SpanColumns:
    """Later beats earlier; of each kind of cleaning the telling that needed most of it counts."""
    merged = SpanColumns()
    for facts in told:
        for kind, times in facts.changes.items():
            merged.changes[kind] = max(times, merged.changes.get(kind, 0))
    for name in _FIELDS:
        setattr(merged, name, _last(getattr(columns, name) for columns in reversed(told)))
    return merged
