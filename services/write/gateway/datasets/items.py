"""Items on their way into a dataset: which can be kept, and what is wrong with the others, one by one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import grpc
from lodestream_proto.v1.datasets_pb2 import ItemOutcome
from lodestream_proto.v1.experiment_event_pb2 import DatasetItemRecorded

from services.write.gateway.admission import Room
from services.write.gateway.datasets.lookup import Described
from services.write.gateway.judge import Fault, Judge, SchemaError
from shared.rules.datasets import check_item
from shared.rules.experiment_ids import item_id_of
from shared.runtime.fairness import Turns
from shared.runtime.refusal import InvalidError, RefusedError

_PATH = "item"


@dataclass(slots=True)
class Judged:
    """For each item given what came of it, and those to keep, by their ids."""

    outcomes: list[ItemOutcome] = field(default_factory=list)
    kept: dict[str, DatasetItemRecorded] = field(default_factory=dict)


async def judge_items(
    project_id: str,
    items: Sequence[DatasetItemRecorded],
    dataset: Described,
    judge: Judge,
    *,
    turns: Turns,
    room: Room,
) -> Judged:
    """What can be kept of these items, with ids.

    Raises RefusedError when the dataset's schemas can't be judged by, or the items are too much together.
    """
    judged = Judged()
    async with turns.of(project_id) as turn:
        for item in items:
            _take(item, dataset, judged, room)
            await turn.give()
    for name, schema in (
        ("input_json", dataset.input_schema),
        ("expected_output_json", dataset.expected_output_schema),
    ):
        texts = {item_id: text for item_id, item in judged.kept.items() if (text := getattr(item, name))}
        if schema and texts:
            _refuse(judged, name, await _faults(project_id, schema, name, texts, judge))
    return judged


def kept_item(item: DatasetItemRecorded, dataset_id: str) -> DatasetItemRecorded:
    """The item as it goes into the log: with an id, of the dataset, its splits sorted.

    Raises InvalidError naming the field.
    """
    kept = DatasetItemRecorded()
    kept.CopyFrom(item)
    kept.dataset_id = item.dataset_id or dataset_id
    kept.item_id = item.item_id or "not known yet"
    check_item(kept, _PATH)
    if kept.dataset_id != dataset_id:
        raise InvalidError(f"{_PATH}.dataset_id", "is another dataset's")
    if not item.item_id:
        kept.item_id = item_id_of(item.input_json, item.expected_output_json)
    kept.splits[:] = sorted(set(item.splits))
    return kept


def _take(item: DatasetItemRecorded, dataset: Described, judged: Judged, room: Room) -> None:
    try:
        room.charge_payload(item, _PATH)
        kept = kept_item(item, dataset.dataset_id)
        _refuse_another(judged.kept.setdefault(kept.item_id, kept), kept)
    except InvalidError as invalid:
        where = invalid.field.removeprefix(f"{_PATH}.")
        judged.outcomes.append(ItemOutcome(item_id=item.item_id, field=where, reason=invalid.why))
    else:
        judged.outcomes.append(ItemOutcome(item_id=kept.item_id))


def _refuse_another(first: DatasetItemRecorded, item: DatasetItemRecorded) -> None:
    """Items of one request may reach the log in any order, so that none of two would be the later one."""
    if first != item:
        raise InvalidError(f"{_PATH}.item_id", "another item of this request has it")


async def _faults(project_id: str, schema: str, name: str, texts: Mapping[str, str], judge: Judge) -> dict[str, Fault]:
    """What is wrong with the items, by their ids."""
    try:
        faults = await judge.faults(project_id, schema, list(texts.values()))
    except SchemaError as error:
        why = f"the dataset's schema of {name} {error}"
        raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, why) from None
    return {item_id: fault for item_id, fault in zip(texts, faults, strict=True) if fault is not None}


def _refuse(judged: Judged, name: str, faults: Mapping[str, Fault]) -> None:
    for outcome in judged.outcomes:
        if not outcome.field and (fault := faults.get(outcome.item_id)):
            outcome.field, outcome.reason = f"{name}{fault[0]}", fault[1]
    for item_id in faults:
        del judged.kept[item_id]
