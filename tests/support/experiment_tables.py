"""The experiments read model in memory: its tables, what is loaded of them for a batch, and what a batch does to them.

Says in Python what services/projections/experiments/sql says in SQL, for tests of everything in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lodestream_proto.v1.experiment_event_pb2 import ExperimentItemFinished

from services.projections.experiments import dataset_rows, run_rows
from services.projections.experiments.commands import AboutDataset, Command, Subject
from services.projections.experiments.content import digest
from services.projections.experiments.dataset_rows import ChangeRow, DescriptionRow, ItemRow
from services.projections.experiments.datasets import Dataset, Item
from services.projections.experiments.decide import Identity, Known, decide_all, item_key, result_key
from services.projections.experiments.run_rows import EvaluationRow, ResultRow
from services.projections.experiments.runs import Run


@dataclass
class ExperimentTables:
    """Rows by their primary keys."""

    events: set[Identity] = field(default_factory=set)
    datasets: dict[Subject, Dataset] = field(default_factory=dict)
    descriptions: dict[tuple[Any, ...], DescriptionRow] = field(default_factory=dict)
    items: dict[tuple[Any, ...], ItemRow] = field(default_factory=dict)
    changes: dict[tuple[Any, ...], ChangeRow] = field(default_factory=dict)
    runs: dict[Subject, Run] = field(default_factory=dict)
    requests: dict[Subject, bytes] = field(default_factory=dict)
    results: dict[tuple[Any, ...], ResultRow] = field(default_factory=dict)
    evaluations: dict[tuple[Any, ...], EvaluationRow] = field(default_factory=dict)
    refused: list[tuple[int, str]] = field(default_factory=list)
    """Offsets and reasons."""

    def fold(self, commands: Sequence[Command]) -> None:
        """One batch. What was folded before is not handed over again: that is the fence's promise."""
        decided = decide_all(self._known(commands), commands)
        self.events |= set(decided.events)
        self._change(dataset_rows.rows_of(decided.changes))
        self._step(run_rows.rows_of(decided.steps))
        self.refused += [(command.record.offset, reason) for command, reason in decided.refused]

    def _known(self, commands: Sequence[Command]) -> Known:
        """Only what these commands ask for."""
        subjects = {command.subject for command in commands}
        keys = {item_key(its.subject, its.payload) for its in commands if isinstance(its.payload, AboutDataset)}
        results = {
            result_key(command.subject, command.payload)
            for command in commands
            if isinstance(command.payload, ExperimentItemFinished)
        }
        return Known(
            events={(*its.subject, its.event_id) for its in commands} & self.events,
            datasets={subject: its for subject, its in self.datasets.items() if subject in subjects},
            items={
                row[:3]: Item(
                    row.version,
                    row.first_version,
                    row.archived,
                    digest(
                        (row.input, row.expected_output, row.metadata),
                        *((its or b"").hex() for its in (row.source_trace_id, row.source_span_id)),
                        *row.splits,
                    ),
                    row.created_at,
                )
                for row in self.items.values()
                if row.until_version is None and row[:3] in keys
            },
            runs={subject: its for subject, its in self.runs.items() if subject in subjects},
            results={key for key in results if key in self.results},
        )

    def _change(self, rows: dataset_rows.DatasetRows) -> None:
        self.datasets.update(rows.heads)
        _insert(self.changes, [(row[:3], row) for row in rows.changes])
        for subject, version in rows.description_until.items():
            _end(self.descriptions, subject, version)
        _insert(self.descriptions, [(row[:3], row) for row in rows.descriptions])
        for gone in rows.archived_descriptions:
            before = next(
                row for row in self.descriptions.values() if row[:2] == gone[:2] and row.until_version == gone.version
            )
            after = before._replace(version=gone.version, until_version=gone.until_version, archived=True)
            _insert(self.descriptions, [(after[:3], after)])
        for key, version in rows.item_until.items():
            _end(self.items, key, version)
        _insert(self.items, [(row[:4], row) for row in rows.items])
        for gone_item in rows.archived_items:
            its = next(
                row
                for row in self.items.values()
                if row[:3] == gone_item[:3] and row.until_version == gone_item.version
            )
            then = its._replace(**{**gone_item._asdict(), "archived": True})
            _insert(self.items, [(then[:4], then)])

    def _step(self, rows: run_rows.RunRows) -> None:
        self.runs.update(rows.heads)
        for subject, request in rows.requested.items():
            _insert(self.requests, [(subject, request.SerializeToString(deterministic=True))])
        _insert(self.results, [(row[:4], row) for row in rows.results])
        _insert(self.evaluations, [(row[:5], row) for row in rows.evaluations])


def _insert(table: dict[Any, Any], rows: Sequence[tuple[Any, Any]]) -> None:
    for key, row in rows:
        assert key not in table, f"{key} is there already"
        table[key] = row


def _end(table: dict[Any, Any], key: tuple[Any, ...], version: int) -> None:
    for its, row in table.items():
        if its[:-1] == key and row.until_version is None:
            table[its] = row._replace(until_version=version)
