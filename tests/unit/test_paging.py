"""Page tokens go on where a page ended, and belong to one request."""

import asyncio
import base64
import json
from datetime import UTC, datetime
from math import isfinite
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lodestream_proto.v1.query_pb2 import GetTraceRequest, WaitFor

from services.read.query.filters import Conditions
from services.read.query.paging import (
    MAX_SIZE,
    Int4,
    PageRequest,
    Sort,
    add_each,
    from_token,
    page_size,
    to_token,
    without_paging,
)
from shared.runtime.refusal import InvalidError, RefusedError


@given(
    st.binary(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
)
def test_a_token_gives_back_where_the_page_ended(request_: bytes, key: int, trace_id: str) -> None:
    assert from_token(request_, to_token(request_, [key, trace_id]), int, str) == [key, trace_id]


def test_no_token_is_the_first_page() -> None:
    assert from_token(b"request", "", int, str) is None


@given(st.text())
def test_no_text_makes_it_raise_anything_but_a_refusal(token: str) -> None:
    if token:
        with pytest.raises(RefusedError, match="page_token"):
            from_token(b"request", token, int, str)


_KINDS = (int, Int4, float, str, datetime, bytes)
_HOSTILE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["\0", "zz", 2**31, 2**62, -1]),
    lambda inner: st.lists(inner, max_size=2),
)


@given(st.sampled_from(_KINDS), st.data())
def test_a_crafted_key_is_of_its_type_or_refused(kind: type, data: st.DataObject) -> None:
    crafted = data.draw(_HOSTILE.filter(lambda key: not isinstance(key, int) or abs(key) < 2**64))
    fingerprint = orjson.loads(base64.urlsafe_b64decode(to_token(b"request", []) + "=="))[0]
    token = base64.urlsafe_b64encode(json.dumps([fingerprint, crafted]).encode()).decode()
    key = _key_or_field(token, kind)
    if key != "page_token":
        assert isinstance(key, int if kind is Int4 else kind)
        assert not isinstance(key, bool)
        assert not isinstance(key, int) or -(2**63) <= key < (2**31 if kind is Int4 else 2**63)
        assert not isinstance(key, str) or "\0" not in key
        assert not isinstance(key, float) or isfinite(key)


def _key_or_field(token: str, kind: type) -> Any:
    try:
        keys = from_token(b"request", token, kind)
    except InvalidError as refused:
        return refused.field
    assert keys is not None
    return keys[0]


def test_times_and_ids_come_back_as_they_were() -> None:
    keys: list[datetime | bytes] = [datetime(2026, 5, 6, 12, 0, 0, 123456, tzinfo=UTC), b"\x00\xff"]
    assert from_token(b"request", to_token(b"request", keys), datetime, bytes) == keys


def test_a_token_of_another_request_or_kind_is_refused() -> None:
    token = to_token(b"request", [1, "a"])
    with pytest.raises(RefusedError, match="another filter or sort"):
        from_token(b"other", token, int, str)
    with pytest.raises(RefusedError, match="not a token"):
        from_token(b"request", token, str, str)


def test_a_token_that_can_not_be_used_names_its_field() -> None:
    with pytest.raises(InvalidError, match=r"^page_token: it belongs to a request with another filter or sort$"):
        from_token(b"other", to_token(b"one", [1]), int)
    with pytest.raises(InvalidError, match=r"^page_token: it is not a token of this service$"):
        from_token(b"one", to_token(b"one", [1, 2]), int)


async def test_rows_become_messages_in_order_and_others_go_on_in_between() -> None:
    turns = []

    async def another() -> None:
        while True:
            turns.append(len(messages))
            await asyncio.sleep(0)

    messages: list[int] = []
    collected = SimpleNamespace(add=lambda **fields: messages.append(fields["n"]))
    beside = asyncio.create_task(another())
    await add_each(collected, range(120), lambda n: {"n": n})
    beside.cancel()
    assert messages == list(range(120))
    assert turns == [50, 100]


def test_page_sizes_have_a_default_and_a_bound() -> None:
    assert (page_size(0), page_size(7), page_size(MAX_SIZE)) == (50, 7, MAX_SIZE)
    with pytest.raises(RefusedError, match="page_size: 1001"):
        page_size(MAX_SIZE + 1)


def test_what_binds_a_token_is_the_request_without_its_page() -> None:
    request = GetTraceRequest(trace_id="a", page_size=5, page_token="t", wait_for=WaitFor(position="p"))
    assert without_paging(request) == GetTraceRequest(trace_id="a").SerializeToString(deterministic=True)
    assert request.page_token == "t"


def test_a_page_is_cut_where_the_next_one_goes_on() -> None:
    rows = [{"at": n, "id": str(n)} for n in range(3)]
    request = GetTraceRequest(trace_id="a", page_size=2)
    assert PageRequest.of(request, int, str).cut(rows[:2], "at", "id") == (rows[:2], "")
    shown, request.page_token = PageRequest.of(request, int, str).cut(rows, "at", "id")
    assert shown == rows[:2]
    conditions, page = Conditions("p"), PageRequest.of(request, int, str)
    Sort((("at", "at", int), ("id", "id", str))).add_after(conditions, page, ascending=True)
    assert (conditions.sql(), conditions.parameters) == (" AND (at, id) > ($2, $3)", ["p", 1, "1"])
    assert page.limit(conditions) == "$4"
