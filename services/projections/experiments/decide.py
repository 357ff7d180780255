"""A batch of commands, decided in the order of the log against what is known of their subjects. Pure."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from lodestream_proto.v1.experiment_event_pb2 import DatasetItemArchived, DatasetItemRecorded, ExperimentItemFinished

from services.projections.experiments.commands import AboutDataset, AboutRun, Command, Subject
from services.projections.experiments.datasets import Change, Dataset, Item, NoDatasetError, decide_dataset
from services.projections.experiments.runs import NoRunError, Run, Step, decide_run

Identity = tuple[str, str, uuid.UUID]
"""Of an event: its subject and its id."""
ItemKey = tuple[str, str, str]
"""A project's id, a dataset's, an item's."""
ResultKey = tuple[str, str, str, int]
"""A project's id, a run's, an item's, and the repetition."""


@dataclass(slots=True)
class Known:
    """What there is of the subjects of some commands, as far as the commands could ask for it."""

    events: set[Identity] = field(default_factory=set)
    datasets: dict[Subject, Dataset] = field(default_factory=dict)
    items: dict[ItemKey, Item] = field(default_factory=dict)
    runs: dict[Subject, Run] = field(default_factory=dict)
    results: set[ResultKey] = field(default_factory=set)


@dataclass(slots=True)
class Decided:
    """What commands came to, in order."""

    events: list[Identity] = field(default_factory=list)
    changes: list[tuple[Subject, Change]] = field(default_factory=list)
    steps: list[tuple[Subject, Step]] = field(default_factory=list)
    refused: list[tuple[Command, str]] = field(default_factory=list)
    """What is told of a subject that is not there, and the reason. Its event has not been decided."""


def decide_all(known: Known, commands: Sequence[Command]) -> Decided:
    """Decide commands one after the other; `known` follows."""
    decided = Decided()
    for command in commands:
        identity = (*command.subject, command.event_id)
        if identity in known.events:
            continue  # decided already, whatever it says now
        try:
            if isinstance(command.payload, AboutDataset):
                _decide_dataset(known, decided, command, command.payload)
            else:
                _decide_run(known, decided, command, command.payload)
        except (NoDatasetError, NoRunError) as error:
            decided.refused.append((command, f"{command.kind}.{error}"))
        else:
            known.events.add(identity)
            decided.events.append(identity)
    return decided


def item_key(subject: Subject, payload: AboutDataset) -> ItemKey | None:
    """Of the item that is told of, unless it is the dataset itself."""
    if isinstance(payload, DatasetItemRecorded | DatasetItemArchived):
        return (*subject, payload.item_id)
    return None


def result_key(subject: Subject, payload: ExperimentItemFinished) -> ResultKey:
    """Of a result: the first one with it holds."""
    return (*subject, payload.item_id, payload.repetition)


def _decide_dataset(known: Known, decided: Decided, command: Command, payload: AboutDataset) -> None:
    key = item_key(command.subject, payload)
    item = known.items.get(key) if key else None
    change = decide_dataset(known.datasets.get(command.subject), item, payload, command.record.appended_at)
    if change is None:
        return
    known.datasets[command.subject] = change.dataset
    if key and change.item:
        known.items[key] = change.item
    decided.changes.append((command.subject, change))


def _decide_run(known: Known, decided: Decided, command: Command, payload: AboutRun) -> None:
    key = result_key(command.subject, payload) if isinstance(payload, ExperimentItemFinished) else None
    run = known.runs.get(command.subject)
    step = decide_run(run, payload, command.record.appended_at, is_known=key in known.results)
    if step is None:
        return
    known.runs[command.subject] = step.run
    if key:
        known.results.add(key)
    decided.steps.append((command.subject, step))
