"""The judge finds each sort of fault in a world that is made up, and nothing in one that is whole."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from shared.runtime.settings import KeySettings
from tests.support.records import event
from tests.torture.checker import MEMORY_MIB, judge, judge_memory, judge_objections
from tests.torture.findings import Kind, Report, report_from
from tests.torture.fold import fold, summarise
from tests.torture.hostile_way import GUESSES
from tests.torture.judge_tables import judge_watched
from tests.torture.ledger import Ledger, Sent, Told, read_ledgers, read_objections
from tests.torture.log_reader import TOPIC, Log
from tests.torture.story import Story
from tests.torture.tables import Model
from tests.torture.wire import LogRecord, read_record

ROOT = Path(__file__).parents[2]
PROJECT, POISON = "acme", b"\xff\xff no event"


@dataclass
class World:
    """What was done, what is in the log, and what the read model makes of it."""

    history: list[Sent]
    log: Log
    model: Model

    def judged(self) -> Report:
        return judge(self.history, self.log, self.model, {})


@pytest.fixture
def world() -> World:
    """Thirty requests and one unreadable record, one after the other, on three partitions."""
    story, history, records = Story("7"), list[Sent](), list[LogRecord]()
    for n in range(30):
        tellings = story.request()
        raw = event([each.span for each in tellings if each.valid], project=PROJECT).SerializeToString()
        records.append(read_record(n % 3, n // 3, raw))
        told, rejected = [each.told for each in tellings], sum(not each.valid for each in tellings)
        history.append(_acked(f"otlp#{n}", "otlp", told, n % 3, n // 3, at=n, rejected=rejected))
    records.append(read_record(0, 10, POISON))
    poison = Told("", "", "bytes:" + hashlib.sha256(POISON).hexdigest())
    history.append(_acked("poison#1", "poison", [poison], 0, 10, at=30))
    log = Log(sorted(records, key=lambda one: (one.partition, one.offset)), {0: 11, 1: 10, 2: 10})
    return World(history, log, _model(log))


def _acked(number: str, way: str, told: list[Told], partition: int, offset: int, *, at: int, rejected: int = 0) -> Sent:
    position = f"{TOPIC}:{partition}:{offset}"
    return Sent(number, way, PROJECT, told, 1, "acked", position, "OK", rejected, began=at, ended=at + 0.5)


def _model(log: Log) -> Model:
    readable = [record for record in log.records if not record.why]
    spans: dict[Any, Any] = {}
    for (project, trace, span, day), columns in fold(readable).items():
        parts = [number for part in columns["parts"] for number in part]
        spans[project, trace, span, day] = {
            **columns, "span": span, "parts": parts, "is_root": not columns["parent"], "type": 1, "level": 2,
            "total_tokens": columns["input_tokens"] + columns["output_tokens"], "cost_picos": 0,
        }  # fmt: skip
    traces: dict[Any, Any] = {
        key: summarise([row for its, row in spans.items() if its[:2] == key]) for key in {its[:2] for its in spans}
    }
    blocks: dict[Any, Any] = {
        (record.partition, record.offset): {
            "project_id": record.project,
            "digest": hashlib.sha256(record.block).hexdigest(),
            "span_count": len(record.spans),
        }
        for record in readable
    }
    letters: dict[Any, Any] = {(0, 10, -1): {"raw": POISON, "reason": "no event"}}
    positions: dict[Any, Any] = {n: {"next_offset": end, "halted_reason": None} for n, end in log.ends.items()}
    return Model(spans, traces, blocks, letters, positions)


def test_a_whole_world_is_clean(world: World) -> None:
    report = world.judged()
    assert report.clean, "\n".join(report.lines())
    assert report.counts["tellings_acked"] > 100
    assert any(len(row["parts"]) > 4 for row in world.model.spans.values()), "some spans were told more than once"
    assert report_from(report.as_json()) == report


def _lose_a_record(world: World) -> None:
    del world.log.records[4]


def _lose_a_row(world: World) -> None:
    world.model.spans.popitem()


def _lose_a_block(world: World) -> None:
    world.model.blocks.popitem()


def _lose_a_dead_letter(world: World) -> None:
    world.model.letters.clear()


def _stop_early(world: World) -> None:
    _any(world.model.positions)["next_offset"] -= 1


def _write_a_record_twice(world: World) -> None:
    again = replace(world.log.records[0], offset=11)
    world.log.records.append(again)


def _count_twice(world: World) -> None:
    _any(world.model.traces)["span_count"] += 1


def _forget_a_request(world: World) -> None:
    del world.history[3]


def _take_what_was_refused(world: World) -> None:
    world.history[3].verdict = "refused"


def _add_a_row(world: World) -> None:
    world.model.spans[PROJECT, "ab" * 16, "cd" * 8, "2026-05-06"] = world.model.spans[min(world.model.spans)]


def _change_a_record(world: World) -> None:
    span = world.log.records[2].spans[0]
    world.log.records[2].spans[0] = span._replace(bytes_digest="bytes:other", said_digest="said:other")


def _change_a_row(world: World) -> None:
    _any(world.model.spans)["name"] = "somebody else's"


def _change_a_block(world: World) -> None:
    _any(world.model.blocks)["digest"] = "other"


def _tell_another_position(world: World) -> None:
    world.history[5].position = f"{TOPIC}:1:0"


def _answer_out_of_order(world: World) -> None:
    world.history[0].began, world.history[0].ended = 100.0, 100.5


def _sum_up_wrongly(world: World) -> None:
    _any(world.model.traces)["input_tokens"] += 1


def _set_good_spans_aside(world: World) -> None:
    letters: dict[Any, Any] = world.model.letters
    letters[1, 1, 0] = {"raw": b"", "reason": "KeyError"}


def _halt(world: World) -> None:
    _any(world.model.positions)["halted_reason"] = "too much poison"


def _any(rows: Any) -> Any:
    return next(iter(rows.values()))


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (_lose_a_record, Kind.LOST),
        (_lose_a_row, Kind.LOST),
        (_lose_a_block, Kind.LOST),
        (_lose_a_dead_letter, Kind.LOST),
        (_stop_early, Kind.LOST),
        (_write_a_record_twice, Kind.DUPLICATED),
        (_count_twice, Kind.DUPLICATED),
        (_forget_a_request, Kind.INVENTED),
        (_take_what_was_refused, Kind.INVENTED),
        (_add_a_row, Kind.INVENTED),
        (_change_a_record, Kind.ALTERED),
        (_change_a_row, Kind.ALTERED),
        (_change_a_block, Kind.ALTERED),
        (_tell_another_position, Kind.OUT_OF_PROMISE),
        (_answer_out_of_order, Kind.OUT_OF_PROMISE),
        (_sum_up_wrongly, Kind.OUT_OF_PROMISE),
        (_set_good_spans_aside, Kind.OUT_OF_PROMISE),
        (_halt, Kind.OUT_OF_PROMISE),
    ],
)
def test_a_fault_is_found(world: World, harm: Callable[[World], None], kind: Kind) -> None:
    harm(world)
    report = world.judged()
    assert kind in report.kinds, "\n".join(report.lines())


def test_what_nobody_was_told_of_is_a_class_of_its_own(world: World) -> None:
    world.history[3].verdict = "unknown"
    counts = world.judged().counts
    assert world.judged().clean, "it may be there"
    assert counts["unsure_stored"] == len(world.history[3].told)
    assert counts["unsure_absent"] == 0


def test_a_position_that_goes_back_is_found() -> None:
    assert not list(judge_watched([{"0": 5}, {"0": 5, "1": 1}, {"0": 9}]))
    (finding,) = judge_watched([{"0": 5}, {"0": 4}])
    assert finding.kind is Kind.OUT_OF_PROMISE


def test_a_process_beyond_its_memory_is_found() -> None:
    assert not list(judge_memory(dict(MEMORY_MIB) | {"otlp": 10_000}))
    (finding,) = judge_memory({"gateway": MEMORY_MIB["gateway"] + 1})
    assert finding.kind is Kind.OUT_OF_PROMISE


def test_the_memory_limits_are_those_that_operators_are_given() -> None:
    table = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    documented = {
        process: int(mib) for process, mib in re.findall(r"^\| ([^|]+) \| (\d+) MiB \|$", table, re.MULTILINE)
    }
    assert documented == {
        "the gateway": MEMORY_MIB["gateway"],
        "the traces projection": MEMORY_MIB["traces"],
        "another projection": max(MEMORY_MIB[name] for name in ("scores", "prompts", "experiments")),
        "the query service": MEMORY_MIB["query"],
        "an evaluation worker": MEMORY_MIB["evaluator"],
    }
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    limits = re.findall(r"^  (\w+):\n(?:    .*\n)*?    mem_limit: (\d+)([mg])\b", compose, re.MULTILINE)
    assert {name: int(size) * {"m": 1, "g": 1024}[unit] for name, size, unit in limits} == MEMORY_MIB


def test_unknown_keys_are_guessed_beyond_what_the_throttle_lets_through() -> None:
    assert 2 * KeySettings.model_fields["unknown_burst"].default < GUESSES


def test_what_a_workload_objects_to_is_found(tmp_path) -> None:
    with Ledger(tmp_path / "hostile-1.ledger", way="hostile", project=PROJECT) as ledger:
        ledger.object("INTERNAL", "ListScores")
    (finding,) = judge_objections(read_objections(tmp_path))
    assert (finding.kind, finding.what, finding.where) == (Kind.OUT_OF_PROMISE, "INTERNAL", "ListScores")
    assert not read_ledgers(tmp_path)


def test_what_a_hostile_project_sends_is_judged_by_its_effect_on_others(world: World) -> None:
    world.log.records.append(replace(world.log.records[0], project="hostile", offset=11))
    world.log.ends[0] = 12
    _any(world.model.positions)["next_offset"] = 12
    assert not judge(world.history, world.log, world.model, {}, hostile=["hostile"]).findings
    _any(world.model.positions)["halted_reason"] = "too much of one project"
    assert judge(world.history, world.log, world.model, {}, hostile=["hostile"]).kinds == {Kind.OUT_OF_PROMISE}


def test_a_ledger_says_what_was_learnt_at_last(tmp_path) -> None:
    told = Told("ab", "cd", "bytes:ef")
    with Ledger(tmp_path / "otlp-1.ledger", way="otlp", project=PROJECT) as ledger:
        first, second, third = (ledger.intend([told]) for _ in range(3))
        ledger.learn(first, "unknown", code="UNAVAILABLE")
        ledger.retry(first)
        ledger.learn(first, "acked", position=f"{TOPIC}:0:1")
        ledger.learn(second, "unknown")
        ledger.retry(second)
        ledger.learn(second, "refused")
    with (tmp_path / "otlp-1.ledger").open("ab") as file:
        file.write(b'{"torn')
    sends = {sent.number: sent for sent in read_ledgers(tmp_path)}
    assert [sent.verdict for sent in sends.values()] == ["acked", "unknown", "unknown"]
    assert [sent.attempts for sent in sends.values()] == [2, 2, 1]
    assert sends[f"otlp-1#{third}"].ended == float("inf")
