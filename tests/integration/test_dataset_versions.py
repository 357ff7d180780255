"""Whatever becomes of a dataset, each version is read for ever as it was: beside a replay that knows no SQL."""

import copy
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from lodestream_proto.v1.datasets_pb2 import (
    DatasetHistoryRequest,
    DatasetItem,
    DatasetSelector,
    GetDatasetRequest,
    ListDatasetsRequest,
    ListItemsRequest,
)
from lodestream_proto.v1.event_pb2 import Event

from services.read.query.database import Database
from services.read.query.datasets import dataset_history, get_dataset, list_datasets, list_items
from shared.storage.migrate import READER_ROLE, dsn_of_role
from shared.storage.postgres import connect_pool
from tests.support.experiment_reading import database_of_its_own
from tests.support.experiment_records import archived, created, folding_experiments, item, item_archived, records
from tests.support.projecting import Projecting, batches
from tests.support.servers import Servers


@pytest.fixture(scope="module")
async def projection(servers: Servers, template: str) -> AsyncIterator[tuple[Projecting, str]]:
    async with database_of_its_own(servers, template) as dsn, folding_experiments(dsn) as projecting:
        yield projecting, dsn


@dataclass(slots=True)
class Item:
    version: int
    input_json: str
    splits: list[str]
    archived: bool = False


@dataclass(slots=True)
class Replay:
    """A dataset as its events make it. Items stay in the order in which they were first told."""

    description: str | None = None
    archived: bool = False
    items: dict[str, Item] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    """By each version: an item's id, or empty."""

    def take(self, event: Event) -> bool:
        """Whether it changes something."""
        version, kind = len(self.changed) + 1, event.WhichOneof("payload")
        match kind:
            case "dataset_created":
                description = event.dataset_created.description
                if self.description == description and not self.archived:
                    return False
                self.description, self.archived = description, False
                self.changed.append("")
                return True
            case "dataset_archived":
                if self.archived:
                    return False
                self.archived = True
                self.changed.append("")
                return True
            case "dataset_item_recorded":
                told = event.dataset_item_recorded
                new = Item(version, told.input_json, sorted(set(told.splits)))
                had = self.items.get(told.item_id)
                if had and not had.archived and (had.input_json, had.splits) == (new.input_json, new.splits):
                    return False
                self.items[told.item_id] = new
                self.changed.append(told.item_id)
                return True
        item_id = event.dataset_item_archived.item_id
        had = self.items.get(item_id)
        if had is None or had.archived:
            return False
        self.items[item_id] = Item(version, had.input_json, had.splits, archived=True)
        self.changed.append(item_id)
        return True


def a_story(choose: random.Random) -> list[Event]:
    story = [created(description="0")]
    for _ in range(choose.randint(40, 80)):
        item_id = choose.choice("zyxabc")
        story.append(
            choose.choice(
                [
                    *[item(item_id, f'"{choose.randint(0, 2)}"', splits=choose.choices("pq", k=choose.randint(0, 2)))]
                    * 6,
                    *[item_archived(item_id)] * 3,
                    created(description=str(choose.randint(0, 1))),
                    archived(),
                ]
            )
        )
    return story


@pytest.mark.parametrize("seed", range(4))
async def test_each_version_is_what_a_replay_up_to_it_gives(projection: tuple[Projecting, str], seed: int) -> None:
    projector, dsn = projection
    choose, project = random.Random(seed), f"p{seed}"
    story, replay = a_story(choose), Replay()
    versions = [copy.deepcopy(replay) for event in story if replay.take(event)]
    told = records(*story, first=0, project=project, partition=seed)
    for batch in batches(told, [choose.randint(1, 9) for _ in range(5)]):
        await projector.fold(*batch)
    pool = await connect_pool(dsn_of_role(dsn, READER_ROLE), application="test")
    database = Database(pool, pool)
    try:
        for version, expected in enumerate(versions, 1):
            selector = DatasetSelector(name="questions", version=version)
            dataset = (await get_dataset(database, project, GetDatasetRequest(dataset=selector))).dataset
            present = [its for its in expected.items.values() if not its.archived]
            assert (dataset.item_count, dataset.archived) == (len(present), expected.archived)
            assert dataset.description == expected.description
            assert list(dataset.splits) == sorted({split for its in present for split in its.splits})
            found: list[DatasetItem] = []
            request = ListItemsRequest(dataset=selector, with_archived=True, page_size=choose.randint(1, 7))
            while True:
                page = await list_items(database, project, request)
                found += page.items
                request.page_token = page.next_page_token
                if not request.page_token:
                    break
            assert [(its.item_id, its.version, its.input_json, list(its.splits), its.archived) for its in found] == [
                (item_id, its.version, its.input_json, its.splits, its.archived)
                for item_id, its in expected.items.items()
            ]
            without = await list_items(database, project, ListItemsRequest(dataset=selector))
            assert list(without.items) == [its for its in found if not its.archived]
        history = await dataset_history(database, project, DatasetHistoryRequest(name="questions", page_size=1_000))
        assert [each.item.item_id for each in reversed(history.changes)] == replay.changed
        (listed,) = (await list_datasets(database, project, ListDatasetsRequest(with_archived=True))).datasets
        assert listed == dataset, "the last version is the present one"
    finally:
        await pool.close()
