"""What lists of datasets and runs can be asked for, where their pages go on, and what is remembered of runs."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream_proto.v1 import datasets_pb2, experiments_pb2
from lodestream_proto.v1.datasets_pb2 import DatasetSelector
from lodestream_proto.v1.score_event_pb2 import (
    SCORE_TYPE_BOOLEAN,
    SCORE_TYPE_CATEGORICAL,
    SCORE_TYPE_NUMERIC,
    SCORE_TYPE_TEXT,
)

from services.read.query.datasets import SelectedDataset, list_datasets_statement, list_items_statement
from services.read.query.experiments import items, runs
from services.read.query.experiments.items import ItemOrder, ItemPosition
from services.read.query.experiments.summaries import ExpiringCache, _batches, evaluation_summary
from services.read.query.paging import to_token, without_paging
from shared.runtime.refusal import InvalidError

RUN = {"run_id": "r", "dataset_id": "d", "dataset_version": 7, "dataset_now": 9}
KEYS = st.one_of(
    st.none(), st.integers(-(2**70), 2**70), st.text(max_size=5), st.booleans(), st.floats(allow_nan=False)
)
DATASETS = datasets_pb2.ListDatasetsRequest(name_contains="x")
ITEMS = datasets_pb2.ListItemsRequest(dataset=DatasetSelector(name="d"))
RUNS = experiments_pb2.ListExperimentsRequest(name_contains="x")
RESULTS = experiments_pb2.ListExperimentItemsRequest(run_id="r")


def ask(request: Any) -> Any:
    """The statement of a request's page."""
    match request:
        case datasets_pb2.ListDatasetsRequest():
            return list_datasets_statement("p", request)
        case datasets_pb2.ListItemsRequest():
            return list_items_statement("p", request, SelectedDataset({"dataset_id": "d", "version": 9}, 7))
        case experiments_pb2.ListExperimentsRequest():
            return runs.list_statement("p", request)
        case _:
            position = items._position(items._page(request)) or ItemPosition(ItemOrder.OF_DATASET)
            return items.list_statement("p", request, RUN, position)


@given(st.sampled_from([DATASETS, ITEMS, RUNS, RESULTS]), st.lists(KEYS, max_size=4))
def test_a_made_up_token_is_refused_or_is_one_that_the_database_can_take(made_for: Any, keys: list[Any]) -> None:
    """Tokens are not secret: whoever makes one up learns nothing and breaks nothing."""
    request = type(made_for).FromString(made_for.SerializeToString())
    try:
        request.page_token = to_token(without_paging(request), keys)
    except TypeError:
        return  # no JSON
    try:
        statement = ask(request)
    except InvalidError as refused:
        if refused.field != "page_token":
            raise
        return
    for parameter in statement.parameters:
        assert not isinstance(parameter, int) or -(2**63) <= parameter < 2**63
        assert not isinstance(parameter, str) or "\0" not in parameter


def test_a_token_goes_on_where_its_page_ended_in_the_same_list_alone() -> None:
    request = experiments_pb2.ListExperimentItemsRequest(run_id="r", failed=True)
    row = {"first_version": 3, "item_id": "i", "repetition": 2}
    for order, first_version in {ItemOrder.OF_DATASET: 3, ItemOrder.OTHERS: 0, ItemOrder.ALL: 0}.items():
        request.page_token = items._token(items._page(request), order, row)
        assert items._position(items._page(request)) == ItemPosition(order, first_version, "i", 2)
    request.failed = False
    with pytest.raises(InvalidError, match="another filter or sort"):
        ask(request)
    request.page_token = to_token(without_paging(request), [3, 0, "i", 0])
    with pytest.raises(InvalidError, match="page_token: it is not a token of this service"):
        ask(request)
    request.page_token = to_token(without_paging(request), [0, 0, "i", 2**31])
    with pytest.raises(InvalidError, match="page_token: it is not a token of this service"):
        ask(request)


def test_what_is_looked_for_in_names_is_no_pattern() -> None:
    assert ask(datasets_pb2.ListDatasetsRequest(name_contains="5%_\\")).parameters[1] == "%5\\%\\_\\\\%"
    assert ask(experiments_pb2.ListExperimentsRequest(name_contains="_")).parameters[1] == "%\\_%"


def test_the_size_of_a_page_is_bounded() -> None:
    for request in (DATASETS, ITEMS, RUNS, RESULTS):
        larger = type(request).FromString(request.SerializeToString())
        assert ask(larger).parameters[-1] == 51
        larger.page_size = 1_001
        with pytest.raises(InvalidError, match="page_size: 1001 is more than 1000"):
            ask(larger)


def said(kind: int, given_: int, *, label: str | None = None, total: float | None = None) -> dict[str, Any]:
    """A row of summarize_evaluations."""
    return {"type": kind, "given": given_, "label": label, "total": None if total is None else Decimal(str(total))}


def test_an_evaluation_is_summed_up_over_all_types_that_it_had() -> None:
    """An evaluator may have changed its mind about the type."""
    summary = evaluation_summary(
        "judge",
        [
            said(0, 4),
            said(SCORE_TYPE_NUMERIC, 2, total=0.5),
            said(SCORE_TYPE_CATEGORICAL, 5, label="good"),
            said(SCORE_TYPE_BOOLEAN, 1, label="false"),
            said(SCORE_TYPE_BOOLEAN, 3, label="true"),
            said(SCORE_TYPE_TEXT, 7),
        ],
    )
    assert (summary.name, summary.count, summary.errors) == ("judge", 18, 4)
    assert dict(summary.counts) == {"good": 5, "true": 3, "false": 1}
    assert summary.mean == 3.5 / 6
    assert not evaluation_summary("x", [said(0, 1), said(SCORE_TYPE_TEXT, 1)]).HasField("mean")


def test_what_is_remembered_is_forgotten_by_age_and_by_use() -> None:
    now = 0.0
    cache = ExpiringCache[str](lambda: now, size=2, seconds=10)
    cache.put("a", "1")
    cache.put("b", "2")
    assert cache.get("a") == "1"
    cache.put("c", "3")
    assert [cache.get(key) for key in "abc"] == ["1", None, "3"]
    now = 9.0
    cache.put("a", "4")
    now = 11.0
    assert [cache.get(key) for key in "abc"] == ["4", None, None]


def test_runs_are_summed_up_in_batches_of_so_many_items() -> None:
    rows = [{"run_id": f"{n}", "items_finished": items} for n, items in enumerate([60_000, 60_000, 0, 100_000, 1, 2])]
    assert [[row["run_id"] for row in batch] for batch in _batches(rows)] == [["0", "1"], ["2", "3"], ["4", "5"]]
    assert list(_batches([])) == []
