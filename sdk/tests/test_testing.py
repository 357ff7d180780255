"""`captured`: what a program would have sent, for its own tests."""

import pytest
from lodestream import get_client
from lodestream.testing import captured


def test_blocks_do_not_see_each_other_and_leave_no_trace():
    with captured() as outer:
        client = get_client()
        with captured() as inner:
            get_client().create_event(name="inside")
        assert get_client() is client
        get_client().create_event(name="outside")
    assert ([span.name for span in inner.spans], [span.name for span in outer.spans]) == (["inside"], ["outside"])


def test_asking_for_what_is_not_there_names_what_is():
    with captured() as told:
        get_client().create_event(name="one")
        with pytest.raises(LookupError, match="0 spans are named 'two'; there are: one"):
            told.named("two")
