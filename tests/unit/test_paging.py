"""Page tokens go on where a page ended, and belong to one request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.read.query.paging import MAX_SIZE, from_token, page_size, to_token
from shared.runtime.refusal import RefusedError


@given(st.binary(), st.integers(-(2**63), 2**63 - 1), st.text(st.characters(exclude_categories=["Cs"])))
def test_a_token_gives_back_where_the_page_ended(request_: bytes, key: int, trace_id: str) -> None:
    assert from_token(request_, to_token(request_, [key, trace_id]), int, str) == [key, trace_id]


def test_no_token_is_the_first_page() -> None:
    assert from_token(b"request", "", int, str) is None


@given(st.text())
def test_no_text_makes_it_raise_anything_but_a_refusal(token: str) -> None:
    if token:
        with pytest.raises(RefusedError, match="page_token"):
            from_token(b"request", token, int, str)


def test_a_token_of_another_request_or_kind_is_refused() -> None:
    token = to_token(b"request", [1, "a"])
    with pytest.raises(RefusedError, match="another filter or sort"):
        from_token(b"other", token, int, str)
    with pytest.raises(RefusedError, match="not a token"):
        from_token(b"request", token, str, str)


def test_page_sizes_have_a_default_and_a_bound() -> None:
    assert (page_size(0), page_size(7), page_size(MAX_SIZE)) == (50, 7, MAX_SIZE)
    with pytest.raises(RefusedError, match="page_size: 1001"):
        page_size(MAX_SIZE + 1)
