"""Damage to a segment costs what it hit, and nothing else."""

from itertools import accumulate, pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from lodestream._delivery.segment import HEADER_BYTES, find_frames, framed

MAGIC = framed(b"x")[:4]
PAYLOADS = st.lists(
    st.binary(min_size=1, max_size=200) | st.binary(max_size=50).map(lambda data: data[:25] + MAGIC + data[25:]),
    min_size=1,
    max_size=8,
)


def found(data: bytes) -> list[bytes]:
    return [data[begin:end] for begin, end in find_frames(data).payloads]


def lost(data: bytes) -> int:
    seen = find_frames(data)
    return sum(end - begin for begin, end in seen.bad) + seen.torn


@given(PAYLOADS)
def test_all_frames_are_found(payloads: list[bytes]) -> None:
    data = b"".join(map(framed, payloads))
    assert found(data) == payloads
    assert lost(data) == 0


@given(PAYLOADS, st.data())
def test_a_write_that_was_cut_short_costs_only_what_was_not_finished(
    payloads: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(map(framed, payloads))
    ends = list(accumulate(len(framed(payload)) for payload in payloads))
    cut = data.draw(st.integers(0, len(whole)))
    finished = sum(end <= cut for end in ends)
    seen = find_frames(whole[:cut])
    assert found(whole[:cut]) == payloads[:finished]
    assert seen.bad == []
    assert seen.torn == cut - (ends[finished - 1] if finished else 0)


@given(PAYLOADS, st.data(), st.integers(1, 255))
def test_a_changed_byte_costs_only_its_frame(payloads: list[bytes], data: st.DataObject, change: int) -> None:
    whole = bytearray(b"".join(map(framed, payloads)))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= change
    bounds = pairwise([0, *accumulate(len(framed(payload)) for payload in payloads)])
    hit = next(number for number, (begin, end) in enumerate(bounds) if begin <= at < end)
    assert found(bytes(whole)) == payloads[:hit] + payloads[hit + 1 :]
    assert lost(bytes(whole)) == HEADER_BYTES + len(payloads[hit])


@given(PAYLOADS, st.binary(min_size=1, max_size=50), st.data())
@example([b"x"], bytes(30), None)
def test_bytes_that_are_no_frames_are_passed_over(
    payloads: list[bytes], noise: bytes, data: st.DataObject | None
) -> None:
    at = data.draw(st.integers(0, len(payloads))) if data else 1
    whole = b"".join((*map(framed, payloads[:at]), noise, *map(framed, payloads[at:])))
    assert found(whole) == payloads
    assert lost(whole) == len(noise)


@given(st.binary(max_size=400) | st.binary(max_size=100).map(lambda data: MAGIC + data))
def test_nothing_is_raised_and_nothing_is_found_twice(data: bytes) -> None:
    seen = find_frames(data)
    told = sorted([*((begin - HEADER_BYTES, end) for begin, end in seen.payloads), *seen.bad])
    assert [*told, (len(data) - seen.torn, len(data))][0][0] == 0
    assert all(end == begin for (_, end), (begin, _) in pairwise([*told, (len(data) - seen.torn, len(data))]))


def test_a_disk_s_zeros_are_no_frames() -> None:
    assert found(MAGIC + bytes(8) + framed(b"x")) == [b"x"]
