"""What the read model of datasets and runs must say of the log: a fold by docs/decisions/0017, and SQL of our own."""

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from tests.torture.contract import (
    EVALUATION,
    RESULT,
    Content,
    LogEvent,
    content_of,
    microseconds,
    read_message,
    readable,
)
from tests.torture.model import Row, Table, Tables, by_partition, fetch_table, hex_of, us

RUNNING, PAUSED, COMPLETED, CANCELLED, FAILED, BUDGET_SPENT = 1, 2, 3, 4, 5, 6
"""lodestream_proto.v1.ExperimentState"""
_CREATED, _DESCRIBED, _ADDED, _CHANGED, _ITEM_ARCHIVED, _ARCHIVED = 1, 2, 3, 4, 5, 6  # DatasetChangeKind
_ENDED_AS = {2: BUDGET_SPENT, 3: FAILED}  # by lodestream_proto.v1.ExperimentOutcome; else completed
_UNSPECIFIED, _NUMERIC, _CATEGORICAL, _BOOLEAN, _TEXT = 0, 1, 2, 3, 4  # lodestream_proto.v1.ScoreType
_DESCRIPTION = ("description", "metadata", "input_schema", "expected_output_schema")
_SAID = ("input", "expected_output", "metadata", "source_trace_id", "source_span_id", "splits")
_TABLES = (
    "datasets", "dataset_descriptions", "dataset_items", "dataset_changes", "experiment_events", "experiment_runs",
    "experiment_items", "experiment_evaluations",
)  # fmt: skip


@dataclass(slots=True)
class _Dataset:
    name: str
    created_us: int
    changed_us: int
    version: int = 0
    archived: bool = False
    item_count: int = 0
    described_at: int = 0
    """The version that brought the present description."""


def expected_experiments(events: Iterable[LogEvent]) -> Tables:
    """Every event decided in the order of the log, and what came of it."""
    fold = _Fold()
    for event in by_partition(readable(list(events))):
        subject = event.project, event.content["dataset_id" if event.kind.startswith("dataset") else "run_id"]
        identity = *subject, uuid.UUID(event.event_id)
        if identity not in fold.table("experiment_events") and fold.can_decide(subject, event):
            fold.table("experiment_events")[identity] = {}
            fold.decide(subject, event)
    return fold.tables()


class _Fold:
    def __init__(self) -> None:
        self._tables: Tables = {f"experiments.{name}": Table() for name in _TABLES}
        self._datasets: dict[tuple[str, str], _Dataset] = {}
        self._items: dict[tuple[str, str, str], int] = {}
        """The version that made each item what it is."""
        self._last_us: dict[tuple[str, str], int] = {}
        """Of runs: no instant of it is later."""

    def table(self, name: str) -> dict[tuple[Any, ...], Any]:
        return self._tables[f"experiments.{name}"]

    def tables(self) -> Tables:
        for subject, dataset in self._datasets.items():
            self.table("datasets")[subject] = {
                "name": dataset.name, "version": dataset.version, "archived": dataset.archived,
                "item_count": dataset.item_count, "created_at_us": dataset.created_us,
                "changed_at_us": dataset.changed_us,
            }  # fmt: skip
        return self._tables

    def can_decide(self, subject: tuple[str, str], event: LogEvent) -> bool:
        """What is told of a dataset or run that is not there becomes a dead letter."""
        begins = event.kind in {"dataset_created", "experiment_requested"}
        return begins or subject in self._datasets or subject in self.table("experiment_runs")

    def decide(self, subject: tuple[str, str], event: LogEvent) -> None:
        match event.kind:
            case "dataset_created":
                self._create(subject, event)
            case "dataset_archived":
                self._archive(subject, event)
            case "dataset_item_recorded":
                self._record(subject, event)
            case "dataset_item_archived":
                self._archive_item(subject, event)
            case "experiment_requested":
                self._request(subject, event)
            case "experiment_item_finished":
                self._finish_item(subject, event)
            case _:
                self._move(subject, event)

    def _create(self, subject: tuple[str, str], event: LogEvent) -> None:
        content = event.content
        dataset = self._datasets.setdefault(subject, _Dataset(content["name"], event.appended_us, event.appended_us))
        described = {
            "description": content.get("description", ""), "metadata": content.get("metadata_json", ""),
            "input_schema": content.get("input_schema_json", ""),
            "expected_output_schema": content.get("expected_output_schema_json", ""),
        }  # fmt: skip
        kind = _CREATED
        if dataset.version and not dataset.archived:
            present = self.table("dataset_descriptions")[*subject, dataset.described_at]
            if all(_same(present[name], described[name], json_text=name != "description") for name in _DESCRIPTION):
                return
            kind = _DESCRIBED
        dataset.archived = False
        self._change(subject, event, kind)
        self._describe(subject, {"archived": False, **described})

    def _archive(self, subject: tuple[str, str], event: LogEvent) -> None:
        dataset = self._datasets[subject]
        if not dataset.archived:
            dataset.archived = True
            present = self.table("dataset_descriptions")[*subject, dataset.described_at]
            self._change(subject, event, _ARCHIVED)
            self._describe(subject, {"archived": True, **{name: present[name] for name in _DESCRIPTION}})

    def _describe(self, subject: tuple[str, str], row: dict[str, Any]) -> None:
        dataset, table = self._datasets[subject], self.table("dataset_descriptions")
        if before := table.get((*subject, dataset.described_at)):
            before["until_version"] = dataset.version
        dataset.described_at = dataset.version
        table[*subject, dataset.version] = {"until_version": None, **row}

    def _record(self, subject: tuple[str, str], event: LogEvent) -> None:
        content, dataset = event.content, self._datasets[subject]
        present = self._item(subject, content["item_id"])
        row = {
            "input": content["input_json"], "expected_output": content.get("expected_output_json", ""),
            "metadata": content.get("metadata_json", ""), "source_trace_id": content.get("source_trace_id"),
            "source_span_id": content.get("source_span_id"), "splits": sorted(set(content.get("splits", []))),
        }  # fmt: skip
        if present and not present["archived"] and _same_item(present, row):
            return
        is_new = present is None or present["archived"]
        dataset.item_count += is_new
        self._change(subject, event, _ADDED if is_new else _CHANGED)
        first = present["first_version"] if present else dataset.version
        created = present["created_at_us"] if present else dataset.changed_us
        self._keep_item(subject, event, {"archived": False, "first_version": first, "created_at_us": created, **row})

    def _archive_item(self, subject: tuple[str, str], event: LogEvent) -> None:
        present = self._item(subject, event.content["item_id"])
        if present and not present["archived"]:
            self._datasets[subject].item_count -= 1
            self._change(subject, event, _ITEM_ARCHIVED)
            kept = {name: present[name] for name in (*_SAID, "first_version", "created_at_us")}
            self._keep_item(subject, event, {"archived": True, **kept})

    def _item(self, subject: tuple[str, str], item_id: str) -> Any:
        version = self._items.get((*subject, item_id))
        return None if version is None else self.table("dataset_items")[*subject, item_id, version]

    def _keep_item(self, subject: tuple[str, str], event: LogEvent, row: dict[str, Any]) -> None:
        dataset, item_id = self._datasets[subject], event.content["item_id"]
        if before := self._item(subject, item_id):
            before["until_version"] = dataset.version
        self._items[*subject, item_id] = dataset.version
        author = event.content.get("author", "")
        self.table("dataset_items")[*subject, item_id, dataset.version] = {
            "until_version": None, **row, "author": author, "changed_at_us": dataset.changed_us,
        }  # fmt: skip

    def _change(self, subject: tuple[str, str], event: LogEvent, kind: int) -> None:
        """One version more."""
        dataset = self._datasets[subject]
        dataset.version += 1
        dataset.changed_us = max(event.appended_us, dataset.changed_us)
        self.table("dataset_changes")[*subject, dataset.version] = {
            "kind": kind, "item_id": event.content.get("item_id", ""), "author": event.content.get("author", ""),
            "changed_at_us": dataset.changed_us,
        }  # fmt: skip

    def _request(self, subject: tuple[str, str], event: LogEvent) -> None:
        if subject in self.table("experiment_runs"):
            return
        self._last_us[subject] = event.appended_us
        self.table("experiment_runs")[subject] = {
            "name": event.content["name"], "dataset_id": event.content.get("dataset_id", ""),
            "dataset_version": event.content.get("dataset_version", 0), "state": RUNNING, "reason": "",
            "requested_at_us": event.appended_us, "ended_at_us": None, "request": event.content, "run_evaluations": [],
            **dict.fromkeys(("items_finished", "items_failed", "input_tokens", "output_tokens", "cost_picodollars"), 0),
        }  # fmt: skip

    def _finish_item(self, subject: tuple[str, str], event: LogEvent) -> None:
        content, run = event.content, self.table("experiment_runs")[subject]
        key = *subject, content["item_id"], content.get("repetition", 0)
        if key in self.table("experiment_items"):
            return
        last = self._last_us[subject]
        at = self._last_us[subject] = event.appended_us if event.appended_us > last else last + 1
        usage = content.get("usage", {})
        self.table("experiment_items")[key] = {
            "failed": bool(content.get("error")),
            "latency_us": microseconds(content["ended_at"]) - microseconds(content["started_at"]),
            "cost_picodollars": usage.get("cost_picodollars"), "finished_at_us": at,
            "trace_id": content.get("trace_id"), "result": content,
        }  # fmt: skip
        run["items_finished"] += 1
        run["items_failed"] += bool(content.get("error"))
        for name in ("input_tokens", "output_tokens", "cost_picodollars"):
            run[name] += usage.get(name, 0)
        for evaluation in content.get("evaluations", []):
            kind, number, label = _value(evaluation)
            row = {"type": kind, "number": number, "label": label}
            self.table("experiment_evaluations")[*subject, evaluation["name"], *key[2:]] = row

    def _move(self, subject: tuple[str, str], event: LogEvent) -> None:
        content, run = event.content, self.table("experiment_runs")[subject]
        if event.kind == "experiment_paused" and run["state"] == RUNNING:
            run["state"] = PAUSED
        elif event.kind == "experiment_resumed" and run["state"] == PAUSED:
            run["state"] = RUNNING
        elif event.kind in {"experiment_cancelled", "experiment_finished"} and run["state"] in {RUNNING, PAUSED}:
            state = CANCELLED
            if event.kind == "experiment_finished":
                state = _ENDED_AS.get(content.get("outcome", 0), COMPLETED)
                run["run_evaluations"] = content.get("evaluations", [])
            reason = "" if state == COMPLETED else content.get("reason", "")
            at = self._last_us[subject] = max(event.appended_us, self._last_us[subject])
            run |= {"state": state, "reason": reason, "ended_at_us": at}


async def read_experiments(connection: asyncpg.Connection, projects: Sequence[str]) -> Tables:
    """What the tables hold now, with messages as their bytes say them."""
    found = {}
    for name, (columns, key) in _QUERIES.items():
        query = f"SELECT {columns} FROM experiments.{name} WHERE project_id = ANY ($1)"
        found[f"experiments.{name}"] = await fetch_table(connection, query, projects, *key)
    for key, row in found["experiments.experiment_runs"].items():
        found["experiments.experiment_runs"][key] = {
            **row,
            "request": content_of("experiment_requested", row["request"]),
            "run_evaluations": [read_message(each, EVALUATION) for each in row["run_evaluations"]],
        }
    for key, row in found["experiments.experiment_items"].items():
        found["experiments.experiment_items"][key] = {**row, "result": read_message(row["result"], RESULT)}
    return found


def _value(evaluation: Content) -> tuple[int, float | None, str | None]:
    if "numeric" in evaluation:
        return _NUMERIC, evaluation["numeric"], None
    if "boolean" in evaluation:
        return _BOOLEAN, float(evaluation["boolean"]), "true" if evaluation["boolean"] else "false"
    if "categorical" in evaluation:
        return _CATEGORICAL, None, evaluation["categorical"]
    if "text" in evaluation:
        return _TEXT, None, evaluation["text"]
    return _UNSPECIFIED, None, evaluation["error"]


def _same_item(one: Row, other: Row) -> bool:
    texts = ("input", "expected_output", "metadata")
    return all(_same(one[name], other[name], json_text=name in texts) for name in _SAID)


def _same(one: Any, other: Any, *, json_text: bool) -> bool:
    """JSON compares as a value, and to say nothing is not to say null."""
    if json_text and one and other:
        one, other = (json.dumps(json.loads(text), sort_keys=True) for text in (one, other))
    return bool(one == other)


_KEYS = {"dataset": ("project_id", "dataset_id"), "run": ("project_id", "run_id")}
_QUERIES = {
    "datasets": (
        f"project_id, dataset_id, name, version, archived, item_count, {us('created_at')}, {us('changed_at')}",
        _KEYS["dataset"],
    ),
    "dataset_descriptions": (
        f"project_id, dataset_id, version, until_version, archived, {', '.join(_DESCRIPTION)}",
        (*_KEYS["dataset"], "version"),
    ),
    "dataset_items": (
        ("project_id, dataset_id, item_id, version, until_version, first_version, archived, input, expected_output, "
        f"metadata, {hex_of('source_trace_id')}, {hex_of('source_span_id')}, splits, author, {us('created_at')}, "
        f"{us('changed_at')}"),
        (*_KEYS["dataset"], "item_id", "version"),
    ),
    "dataset_changes": (
        f"project_id, dataset_id, version, kind, item_id, author, {us('changed_at')}", (*_KEYS["dataset"], "version"),
    ),
    "experiment_events": ("project_id, subject_id, event_id", ("project_id", "subject_id", "event_id")),
    "experiment_runs": (
        (f"project_id, run_id, name, dataset_id, dataset_version, state, reason, {us('requested_at')}, "
        f"{us('ended_at')}, request, run_evaluations, items_finished, items_failed, input_tokens, output_tokens, "
        "cost_picodollars::bigint"),
        _KEYS["run"],
    ),
    "experiment_items": (
        (f"project_id, run_id, item_id, repetition, failed, latency_us, cost_picodollars, {us('finished_at')}, "
        f"{hex_of('trace_id')}, result"),
        (*_KEYS["run"], "item_id", "repetition"),
    ),
    "experiment_evaluations": (
        "project_id, run_id, name, item_id, repetition, type, number, label",
        (*_KEYS["run"], "name", "item_id", "repetition"),
    ),
}  # fmt: skip
"""Columns and primary key of each table."""
