"""The row of a span from its revisions, of which an SDK sends one or several: a pure function of their set."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import TypeVar

from lodestream_proto.v1.trace_pb2 import LEVEL_DEFAULT, SPAN_TYPE_SPAN

from services.projections.traces.rows import SpanKey, SpanRef, SpanRow
from shared.spans.blocks import ReceivedSpan
from shared.spans.dialects import SpanColumns, read_columns
from shared.spans.dialects.usage import totals
from shared.spans.dialects.values import AMOUNT, MAX_PICOS, MAX_TOKENS, TIME, Cleaner
from shared.spans.pricing import cost_of, total_cost

_DAY_US = 86_400_000_000
_MIN_START_US = _DAY_US  # a clock that was never set tells the first day of 1970
_MOST_SANITIZED = 2**15 - 1
_NO_PARENT = bytes(8)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_FIELDS = tuple(field.name for field in fields(SpanColumns) if field.name not in {"as_root", "changes"})
Value = TypeVar("Value")


MAX_REVISIONS = 64
"""Different revisions of one span that count; two are usual, one when it began and one when it ended."""
_EARLIEST = 16


class PoisonedSpanError(ValueError):
    """A span that no row can hold; the message says why."""


@dataclass(slots=True)
class SpanRevision:
    """One revision of a span, its times brought within reason."""

    ref: SpanRef
    source: ReceivedSpan
    trace_id: bytes
    span_id: bytes
    start_us: int
    end_us: int | None
    clamped: int

    def key(self, project_id: str) -> SpanKey:
        """The span that this is a revision of."""
        day = date.fromordinal(_EPOCH_ORDINAL + self.start_us // _DAY_US)
        return project_id, self.trace_id, self.span_id, day


def read_revision(ref: SpanRef, source: ReceivedSpan) -> SpanRevision:
    """Read a revision, and bring its times within reason.

    A start outside of 1970-01-02 … a day after it was received becomes the time it was received; an end before the
    start becomes the start, one out of range the time received.

    Raises PoisonedSpanError for ids of another length than OpenTelemetry's.
    """
    span = source.span
    trace_id, span_id = span.trace_id, span.span_id
    if len(trace_id) != 16 or len(span_id) != 8:
        raise PoisonedSpanError("trace_id must have 16 bytes and span_id 8")
    latest, clamped = ref.received_at_us + _DAY_US, 0
    start = span.start_time_unix_nano // 1000
    if not _MIN_START_US <= start <= latest:
        start, clamped = ref.received_at_us, 1
    end: int | None = None
    if end_ns := span.end_time_unix_nano:
        sent_end = end_ns // 1000
        end = max(start, sent_end if sent_end <= latest else ref.received_at_us)
        clamped += end != sent_end
    return SpanRevision(ref, source, trace_id, span_id, start, end, clamped)


@dataclass(slots=True)
class RevisionColumns:
    """What counts of a revision when a span has several: small, whatever the span's content is."""

    ref: SpanRef
    order: tuple[int, bytes]
    """Event time, and a digest of all that was sent: equal for equal revisions; of two the greater is the later one."""
    start_us: int
    end_us: int | None
    parent: bytes | None
    columns: SpanColumns


def columns_of(revision: SpanRevision) -> RevisionColumns:
    """Read what counts of a revision, without its source."""
    columns = read_columns(revision.source)
    if revision.clamped:
        Cleaner(columns.changes).count(TIME, revision.clamped)
    moment = revision.start_us if revision.end_us is None else revision.end_us
    return RevisionColumns(
        revision.ref,
        (moment, _digest(revision.source)),
        revision.start_us,
        revision.end_us,
        _parent(revision),
        columns,
    )


def fold(key: SpanKey, revisions: Sequence[SpanRevision], changes: Counter[str] | None = None) -> SpanRow:
    """Fold the revisions of a span, at least one, into its row. Their order and repetition make no difference.

    What had to be cleaned is added to `changes`, by kind.
    """
    if len(revisions) > 1:
        return fold_revisions(key, map(columns_of, revisions), changes)
    (only,) = revisions
    columns, parent = read_columns(only.source), _parent(only)
    if only.clamped:
        Cleaner(columns.changes).count(TIME, only.clamped)
    row = _row(
        key,
        columns,
        start_us=only.start_us,
        end_us=only.end_us,
        parent=parent,
        is_root=parent is None or columns.as_root,
        parts=(only.ref,),
    )
    if columns.changes and changes is not None:
        changes.update(columns.changes)
    return row


def fold_revisions(key: SpanKey, revisions: Iterable[RevisionColumns], changes: Counter[str] | None = None) -> SpanRow:
    """Fold the revisions of a span that has several into its row.

    Of more than MAX_REVISIONS different ones the earliest and the latest count: by their content and not by their place
    in the log, so that it makes no difference in how many steps they come.
    """
    in_order = _distinct(revisions)
    if len(in_order) > MAX_REVISIONS:
        in_order = in_order[:_EARLIEST] + in_order[_EARLIEST - MAX_REVISIONS :]
    columns, parent = _merge([each.columns for each in in_order]), _last(each.parent for each in reversed(in_order))
    row = _row(
        key,
        columns,
        start_us=in_order[-1].start_us,
        end_us=_last(each.end_us for each in reversed(in_order)),
        parent=parent,
        is_root=parent is None or any(each.columns.as_root for each in in_order),
        parts=tuple(sorted(each.ref for each in in_order)),
    )
    if changes is not None:
        changes.update(columns.changes)
    return row


def _distinct(revisions: Iterable[RevisionColumns]) -> list[RevisionColumns]:
    """Equal revisions once, at their first place in the log, in order."""
    first: dict[tuple[int, bytes], RevisionColumns] = {}
    for each in sorted(revisions, key=lambda revision: revision.ref):
        first.setdefault(each.order, each)
    return [first[order] for order in sorted(first)]


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


def _parent(revision: SpanRevision) -> bytes | None:
    parent: bytes = revision.source.span.parent_span_id
    return parent if len(parent) == 8 and parent != _NO_PARENT else None


def _last(backwards: Iterable[Value | None]) -> Value | None:
    """The latest value that was sent: a revision without one does not take it away."""
    return next((value for value in backwards if value is not None), None)


def _row(
    key: SpanKey,
    columns: SpanColumns,
    *,
    start_us: int,
    end_us: int | None,
    parent: bytes | None,
    is_root: bool,
    parts: tuple[SpanRef, ...],
) -> SpanRow:
    usage = columns.usage
    cost = columns.cost or cost_of(columns.model, usage, columns.changes)
    sent, produced, total = totals(usage) if usage else (0, 0, 0)
    picos = total_cost(cost) if cost else 0
    if sent > MAX_TOKENS or produced > MAX_TOKENS or total > MAX_TOKENS or picos > MAX_PICOS:
        clean = Cleaner(columns.changes)
        sent, produced, total = [_at_most(MAX_TOKENS, tokens, clean) for tokens in (sent, produced, total)]
        picos = _at_most(MAX_PICOS, picos, clean)
    sanitized = sum(columns.changes.values()) if columns.changes else 0
    project_id, trace_id, span_id, start_day = key
    # By position: 35 keywords took six times as long, a tenth of project(). The order is that of SpanRow.
    return SpanRow(
        project_id, start_day, trace_id, span_id, parent, is_root,
        columns.name or "", columns.type or SPAN_TYPE_SPAN, columns.level or LEVEL_DEFAULT, columns.status_message,
        start_us, None if end_us is None else max(start_us, end_us), columns.first_token_us,
        columns.model, columns.provider, usage, cost,
        sent, produced, total, picos,
        columns.prompt_name, columns.prompt_version, columns.trace_name, columns.user_id, columns.session_id,
        columns.tags,
        columns.environment, columns.release, columns.version, columns.sdk,
        columns.input_preview, columns.output_preview, min(sanitized, _MOST_SANITIZED), parts,
    )  # fmt: skip


def _at_most(most: int, amount: int, clean: Cleaner) -> int:
    if amount <= most:
        return amount
    clean.count(AMOUNT)
    return most


def _merge(in_order: Sequence[SpanColumns]) -> SpanColumns:
    """Later values win; of each kind of cleaning the revision that needed most of it counts."""
    merged = SpanColumns()
    for columns in in_order:
        for kind, times in columns.changes.items():
            merged.changes[kind] = max(times, merged.changes.get(kind, 0))
    for name in _FIELDS:
        setattr(merged, name, _last(getattr(columns, name) for columns in reversed(in_order)))
    return merged
