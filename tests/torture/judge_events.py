"""Ledgers against a topic of events about scores, prompts, or datasets and runs: whether the gateway kept its word."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from tests.torture.contract import Content, LogEvent, readable
from tests.torture.findings import Finding, Kind
from tests.torture.judge_log import judge_order, positions_of
from tests.torture.ledger import Claim, Sent
from tests.torture.log_reader import Events

Identity = tuple[str, str, str]
"""Project, kind, and the event's id, or its content where the gateway makes the id."""


class _Index:
    """Where in a topic events are, by id and by content."""

    def __init__(self, events: Sequence[LogEvent]) -> None:
        self._by_id: dict[Identity, list[LogEvent]] = defaultdict(list)
        self._by_content: dict[Identity, list[LogEvent]] = defaultdict(list)
        self._by_kind: dict[tuple[str, str], list[LogEvent]] = defaultdict(list)
        for event in readable(events):
            self._by_id[event.project, event.kind, event.event_id].append(event)
            self._by_content[event.project, event.kind, _text(event.content)].append(event)
            self._by_kind[event.project, event.kind].append(event)

    def find(self, project: str, claim: Claim) -> Sequence[LogEvent]:
        """The events that a claim may mean, whatever they say if it names an id."""
        if claim.event_id:
            return self._by_id.get((project, claim.kind, claim.event_id), ())
        if claim.partial:
            return [event for event in self._by_kind.get((project, claim.kind), ()) if says(event, claim)]
        return self._by_content.get((project, claim.kind, _text(claim.content)), ())


def says(event: LogEvent, claim: Claim) -> bool:
    """Whether an event says what was claimed."""
    if claim.partial:
        return all(event.content.get(name) == value for name, value in claim.content.items())
    return _text(event.content) == _text(claim.content)


def judge_events(history: Sequence[Sent], log: Events, *, workers: Collection[LogEvent] = ()) -> Iterator[Finding]:
    """All that was acknowledged is there once an attempt, where the answer said, as it was sent; all that is there was
    sent. `workers`: the events that no program but an evaluation worker tells.
    """
    index = _Index(log.events)
    about_it = [sent for sent in history if any(claim.topic == log.topic for claim in sent.claims)]
    wanted = {
        _identify(sent, claim) for sent in about_it if sent.verdict != "refused" for claim in sent.claims if claim.valid
    }
    for sent in about_it:
        yield from _kept(sent, log.topic, index, wanted)
    yield from _copies(about_it, log.topic, index)
    yield from _strangers(about_it, log, {event.where for event in workers})
    yield from judge_order(about_it, log.topic)


def _identify(sent: Sent, claim: Claim) -> tuple[str, ...]:
    return sent.project, claim.kind, claim.event_id, _text(claim.content)


def _kept(sent: Sent, topic: str, index: _Index, wanted: Collection[tuple[str, ...]]) -> Iterator[Finding]:
    named = positions_of(sent.position, topic)
    claims = [claim for claim in sent.claims if claim.topic == topic]
    for claim in claims:
        found = index.find(sent.project, claim)
        as_sent = [event for event in found if says(event, claim)]
        where = f"{sent.number}, {_describe(claim)}"
        if not claim.valid or sent.verdict == "refused":
            if as_sent and _identify(sent, claim) not in wanted:  # another request may have said the same
                yield Finding(Kind.INVENTED, "refused for good, and in the log", f"{where} at {as_sent[0].where}")
        elif sent.verdict == "acked" and not found:
            yield Finding(Kind.LOST, "acknowledged, not in the log", f"{where}, position {sent.position or 'none'}")
        elif sent.verdict == "acked" and not as_sent:
            yield Finding(Kind.ALTERED, "in the log with another content", f"{where}: {_differences(found[0], claim)}")
        elif sent.verdict == "acked" and named and not any(_covers(named, event) for event in found):
            where = f"{where}: answered {sent.position}, is at {[event.where for event in found]}"
            yield Finding(Kind.OUT_OF_PROMISE, "not at the position that was told", where)
    invalid = sum(not claim.valid for claim in claims)
    if sent.verdict == "acked" and sent.rejected != invalid:
        where = f"{sent.number}: {sent.rejected} instead of {invalid}"
        yield Finding(Kind.OUT_OF_PROMISE, "another number of events refused than was wrong", where)


def _covers(named: Mapping[int, int], event: LogEvent) -> bool:
    """A request of several events names the last of each partition."""
    return event.offset <= named.get(event.partition, -1)


def _copies(history: Sequence[Sent], topic: str, index: _Index) -> Iterator[Finding]:
    """Each attempt may leave one copy."""
    attempts: dict[Identity, int] = defaultdict(int)
    claims: dict[Identity, Claim] = {}
    for sent in history:
        for claim in sent.claims:
            if claim.topic == topic and not claim.partial:
                identity = sent.project, claim.kind, claim.event_id or _text(claim.content)
                attempts[identity] += sent.attempts
                claims[identity] = claim
    for identity, times in attempts.items():
        found = index.find(identity[0], claims[identity])
        if len(found) > times:
            where = f"{' '.join(identity)}: sent {times} times, at {[event.where for event in found]}"
            yield Finding(Kind.DUPLICATED, "in the log more often than it was sent", where)


def _strangers(history: Sequence[Sent], log: Events, of_workers: Collection[str]) -> Iterator[Finding]:
    by_id: dict[Identity, list[Claim]] = defaultdict(list)
    by_content: set[Identity] = set()
    partial: dict[tuple[str, str], list[Claim]] = defaultdict(list)
    for sent in history:
        for claim in sent.claims:
            if claim.event_id:
                by_id[sent.project, claim.kind, claim.event_id].append(claim)
            elif claim.partial:
                partial[sent.project, claim.kind].append(claim)
            else:
                by_content.add((sent.project, claim.kind, _text(claim.content)))
    for event in readable(log.events):
        if event.where in of_workers or (event.project, event.kind, _text(event.content)) in by_content:
            continue
        where = f"{event.where}, {event.kind} {event.event_id} of {event.project}"
        claims = by_id.get((event.project, event.kind, event.event_id), [])
        claims = claims or partial.get((event.project, event.kind), [])
        if not claims:
            yield Finding(Kind.INVENTED, "in the log, and nobody sent it", where)
        elif not any(says(event, claim) for claim in claims):
            what = f"{where}: {_differences(event, claims[0])}"
            yield Finding(Kind.ALTERED, "in the log with another content", what)


def _differences(event: LogEvent, claim: Claim) -> str:
    names = claim.content.keys() if claim.partial else claim.content.keys() | event.content.keys()
    return "; ".join(
        f"{name}: {event.content.get(name)!r} for {claim.content.get(name)!r}"
        for name in sorted(names)
        if event.content.get(name) != claim.content.get(name)
    )


def _describe(claim: Claim) -> str:
    return f"{claim.kind} {claim.event_id or _text(claim.content)[:200]}"


def _text(content: Content) -> str:
    return json.dumps(content, sort_keys=True)
