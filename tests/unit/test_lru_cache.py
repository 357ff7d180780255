"""A cache of bounded size keeps what was used last."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.lru_cache import LruCache


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    cache: LruCache[str, int] = LruCache(2)
    cache["a"], cache["b"] = 1, 2
    assert cache.get("a") == 1
    cache["c"] = 3
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    assert list(cache) == ["a", "c"]
    assert list(reversed(cache)) == ["c", "a"]


def test_to_peek_is_not_to_use() -> None:
    cache: LruCache[str, int] = LruCache(2)
    cache["a"], cache["b"] = 1, 2
    assert cache.peek("a") == 1
    cache["c"] = 3
    assert cache.peek("a") is None
    assert cache.pop("b") == 2
    assert cache.pop("b") is None
    assert len(cache) == 1


@given(st.integers(1, 5), st.lists(st.tuples(st.sampled_from("gsp"), st.integers(0, 7))))
def test_it_holds_the_keys_used_last(capacity: int, steps: Sequence[tuple[str, int]]) -> None:
    cache: LruCache[int, int] = LruCache(capacity)
    used: list[int] = []  # the keys there are, in the order of their last use
    for n, (step, key) in enumerate(steps):
        if step == "s":
            cache[key] = n
            used = [*(each for each in used if each != key), key][-capacity:]
        elif step == "g":
            assert (cache.get(key) is None) == (key not in used)
            used = [*(each for each in used if each != key), key] if key in used else used
        else:
            cache.pop(key)
            used = [each for each in used if each != key]
        assert list(cache) == used
