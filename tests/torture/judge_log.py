"""Ledgers against the log: whether the gateway, and the SDK before it, kept their word."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence

from tests.torture.findings import Finding, Kind
from tests.torture.ledger import Sent, Told
from tests.torture.log_reader import TOPIC, Log
from tests.torture.wire import LogRecord

Place = tuple[int, int]
"""Partition and offset."""
Telling = tuple[str, str, str, str]
"""Project, trace, span, digest."""


class Index:
    """Where each telling is in the log."""

    def __init__(self, log: Log) -> None:
        self.places: dict[Telling, list[Place]] = defaultdict(list)
        self.records = log.records
        for record in log.records:
            at = record.partition, record.offset
            for span in record.spans:
                for digest in (span.bytes_digest, span.said_digest):
                    self.places[record.project, span.trace, span.span, digest].append(at)
            if record.why:
                self.places["", "", "", "bytes:" + hashlib.sha256(record.raw).hexdigest()].append(at)

    def find(self, sent: Sent, told: Told) -> list[Place]:
        """Where a telling is, as often as it is there."""
        return self.places.get(telling_of(sent, told), [])


def telling_of(sent: Sent, told: Told) -> Telling:
    """Poison has no project of its own: what can't be read may not name one."""
    return ("" if sent.way == "poison" else sent.project, *told[:3])


def judge_log(
    history: Sequence[Sent], log: Log, traces_of_workers: Collection[tuple[str, str]] = ()
) -> Iterator[Finding]:
    """Everything acknowledged is there, at the position told, in order; nothing is there that nobody sent.

    `traces_of_workers`: projects and ids of traces that evaluation workers told, and no program.
    """
    history = [sent for sent in history if not sent.claims]
    index = Index(log)
    wanted = {
        telling_of(sent, told) for sent in history if sent.verdict != "refused" for told in sent.told if told.valid
    }
    for sent in history:
        yield from _kept(sent, index, wanted)
    yield from _copies(history, index)
    yield from _strangers(history, log.records, traces_of_workers)
    yield from judge_order(history)


def unsure(history: Sequence[Sent], log: Log) -> Counter[str]:
    """What became of the tellings that nobody was told the fate of."""
    index = Index(log)
    counts = Counter({"unsure_stored": 0, "unsure_absent": 0})
    for sent in history:
        if sent.verdict == "unknown" and not sent.claims:
            counts.update("unsure_stored" if index.find(sent, told) else "unsure_absent" for told in sent.told)
    return counts


def _kept(sent: Sent, index: Index, wanted: Collection[Telling]) -> Iterator[Finding]:
    named = positions_of(sent.position)
    for told in sent.told:
        places, where = index.find(sent, told), f"{sent.number}, span {told.trace}/{told.span}"
        if not told.valid or sent.verdict == "refused":
            if places and telling_of(sent, told) not in wanted:  # the same may have been sent by another request
                yield Finding(Kind.INVENTED, "refused for good, and in the log", f"{where} at {places[0]}")
        elif sent.verdict in {"acked", "spooled"} and not places:
            promised = "acknowledged" if sent.verdict == "acked" else "kept in the SDK's spool"
            yield Finding(Kind.LOST, f"{promised}, not in the log", f"{where}, position {sent.position or 'none'}")
        elif sent.verdict == "acked" and not any(_covers(sent, named, place) for place in places):
            where = f"{where}: told {sent.position or 'nothing'}, is at {places}"
            yield Finding(Kind.OUT_OF_PROMISE, "not at the position that was told", where)
    invalid = sum(not told.valid for told in sent.told)
    if sent.verdict == "acked" and sent.rejected != invalid:
        where = f"{sent.number}: {sent.rejected} instead of {invalid}"
        yield Finding(Kind.OUT_OF_PROMISE, "another number of spans rejected than was wrong", where)


def positions_of(token: str, of_topic: str = TOPIC) -> dict[int, int]:
    """The offset of each partition of a topic that a position names."""
    positions = {}
    for part in filter(None, token.split(",")):
        topic, partition, offset = part.rsplit(":", 2)
        if topic == of_topic:
            positions[int(partition)] = int(offset)
    return positions


def _covers(sent: Sent, named: dict[int, int], place: Place) -> bool:
    """The SDK's position is of all it delivered so far; a request of ours is one record."""
    partition, offset = place
    if sent.way == "sdk":
        return offset <= named.get(partition, -1)
    return offset == named.get(partition)


def _copies(history: Sequence[Sent], index: Index) -> Iterator[Finding]:
    """Each attempt may leave one copy. How often the SDK tries is its own business."""
    attempts: Counter[Telling] = Counter()
    for sent in history:
        attempts.update({telling_of(sent, told): sent.attempts for told in sent.told if sent.way != "sdk"})
    for telling, times in attempts.items():
        if len(places := index.places.get(telling, [])) > times:
            yield Finding(Kind.DUPLICATED, "in the log more often than it was sent", f"{telling}: {times} < {places}")


def _strangers(
    history: Sequence[Sent], records: Sequence[LogRecord], of_workers: Collection[tuple[str, str]]
) -> Iterator[Finding]:
    known = {telling_of(sent, told) for sent in history for told in sent.told}
    identities = {telling[:3] for telling in known}
    for record in records:
        where = f"record {record.partition}:{record.offset}"
        if record.why:
            if ("", "", "", "bytes:" + hashlib.sha256(record.raw).hexdigest()) not in known:
                yield Finding(Kind.INVENTED, "an unreadable record that nobody wrote", f"{where}: {record.why}")
            continue
        for span in record.spans:
            identity = record.project, span.trace, span.span
            if identity[:2] in of_workers:
                continue
            if identity not in identities:
                yield Finding(Kind.INVENTED, "in the log, and nobody sent it", f"{where}, span {identity}")
            elif not known & {(*identity, span.bytes_digest), (*identity, span.said_digest)}:
                yield Finding(Kind.ALTERED, "in the log with another content", f"{where}, span {identity}")


def judge_order(history: Sequence[Sent], topic: str = TOPIC) -> Iterator[Finding]:
    """What was sent after another request's answer is behind it in its partition."""
    acked = [sent for sent in history if sent.verdict == "acked" and sent.position and sent.way != "sdk"]
    moments = sorted(
        [(sent.began, 1, n) for n, sent in enumerate(acked)] + [(sent.ended, 0, n) for n, sent in enumerate(acked)]
    )
    answered: dict[int, int] = {}
    for _, begins, n in moments:
        for partition, offset in positions_of(acked[n].position, topic).items():
            if not begins:
                answered[partition] = max(offset, answered.get(partition, -1))
            elif offset <= answered.get(partition, -1):
                where = f"{acked[n].number}: {offset} is not behind {answered[partition]} in partition {partition}"
                yield Finding(Kind.OUT_OF_PROMISE, "a position from before the request", where)
