"""What providers say, and when they are asked again."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.write.evaluator.model_calls import MAX_BACKOFF_SECONDS, backoff_seconds
from services.write.evaluator.providers.endpoints import ProvidersError, read_entries
from services.write.evaluator.providers.mock import MockProvider
from services.write.evaluator.providers.openai import is_transient, parse_reply, retry_after
from services.write.evaluator.providers.provider import CallError, ModelRequest, PermanentError, TransientError
from services.write.evaluator.rate_limits import MAX_WAIT_SECONDS, CallDelayedError, LocalRateLimit
from tests.support.model_server import completion

AT_ONCE = {"latency_seconds": 0}


def question(n: int = 0, *, attempt: int = 1, **settings: Any) -> ModelRequest:
    messages = [
        {"role": "system", "content": "It takes 14 days."},
        {"role": "user", "content": f"How many days ({n})?"},
    ]
    return ModelRequest(model="mock-large", messages=messages, settings={**AT_ONCE, **settings}, attempt=attempt)


async def outcome(request: ModelRequest) -> str:
    try:
        return (await MockProvider().complete(request)).text
    except CallError as error:
        return str(error)


@given(attempt=st.integers(1, 100), chance=st.floats(0, 1), retry_after_s=st.none() | st.floats(0, 3600))
def test_pauses_grow_to_a_minute_and_never_end_before_it_is_asked_for(
    attempt: int, chance: float, retry_after_s: float | None
) -> None:
    seconds = backoff_seconds(attempt, retry_after=retry_after_s, chance=lambda: chance)
    assert (retry_after_s or 0) <= seconds <= (retry_after_s or 0) + min(MAX_BACKOFF_SECONDS, 2.0 ** (attempt - 1))


def test_the_whole_pause_is_chance() -> None:
    assert [backoff_seconds(n, retry_after=None, chance=lambda: 1.0) for n in range(1, 9)] == [
        1,
        2,
        4,
        8,
        16,
        32,
        60,
        60,
    ]
    assert backoff_seconds(9, retry_after=None, chance=lambda: 0.0) == 0.0


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 529])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert is_transient(status)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_will_not_pass_is_not(status: int) -> None:
    assert not is_transient(status)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("1e9", 3600.0), ("nan", None), ("soon", None), ("", None),
        ("Thu, 01 Jan 1970 00:00:30 GMT", 20.0), ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": header}, now=10.0) == seconds
    assert retry_after({}, now=10.0) is None


def test_a_completion_is_text_and_what_it_took() -> None:
    reply = parse_reply(completion("hello"), "asked-for")
    assert (reply.text, reply.model, reply.usage) == ("hello", "mock-large", {"input": 10, "output": 5, "total": 15})


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"choices": []}', b'{"choices": [3]}', b"\xff"])
def test_what_is_no_completion_may_be_one_the_next_time(body: bytes) -> None:
    with pytest.raises(TransientError):
        parse_reply(body, "m")


def test_a_completion_without_text_stays_so() -> None:
    completed = json.loads(completion(""))
    completed["choices"][0]["message"] = {"content": None, "refusal": "I will not"}
    with pytest.raises(PermanentError, match="I will not"):
        parse_reply(json.dumps(completed).encode(), "m")


def test_halves_of_characters_do_not_get_far() -> None:
    parse_reply(completion("x").replace(b'"x"', rb'"\ud800"'), "m").text.encode()


async def test_the_mock_model_is_the_same_for_the_same_question() -> None:
    rates: dict[str, Any] = {"error_rate": 0.3, "rate_limit_rate": 0.2, "refusal_rate": 0.1}
    once = [await outcome(question(n, **rates)) for n in range(60)]
    assert once == [await outcome(question(n, **rates)) for n in range(60)]
    assert {text[:3] for text in once} == {"It ", "503", "429", "400"}
    assert once != [await outcome(question(n, seed=1, **rates)) for n in range(60)]


async def test_the_mock_model_may_answer_the_next_time_what_it_does_not_refuse() -> None:
    tries = [await outcome(question(attempt=attempt, error_rate=0.5)) for attempt in range(1, 20)]
    assert {text[:3] for text in tries} == {"It ", "503"}
    first = [await outcome(question(n, refusal_rate=0.3)) for n in range(40)]
    second = [await outcome(question(n, attempt=2, refusal_rate=0.3)) for n in range(40)]
    assert first == second
    assert {text[:3] for text in first} == {"It ", "400"}


async def test_settings_that_make_no_sense_are_named() -> None:
    with pytest.raises(PermanentError, match=r"settings\.error_rate"):
        await MockProvider().complete(question(error_rate=2))


def test_providers_come_from_a_file_and_secrets_do_not(tmp_path, monkeypatch) -> None:
    path = tmp_path / "providers.json"
    assert not read_entries(None), "the mock model is there where it is configured, and nowhere else"
    path.write_text("")
    assert not read_entries(path)
    path.write_text('{"x": {"kind": "openai", "base_url": "http://h/v1", "api_key_env": "SOME_KEY"}}')
    with pytest.raises(ProvidersError, match=r"x\.api_key_env: SOME_KEY is not set"):
        read_entries(path)
    monkeypatch.setenv("SOME_KEY", "s3cret")
    entries = read_entries(path)
    assert set(entries) == {"x"}
    assert "s3cret" not in repr(entries)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "the file"), ('{"x": {"kind": "magic"}}', "x.kind"), ('{"x": {"kind": "openai"}}', "x.base_url"),
        ('{"x": {"kind": "mock", "api_key": "k"}}', "x.api_key"),
        ('{"x": {"kind": "openai", "base_url": "ftp://h"}}', "x.base_url"),
    ],
)  # fmt: skip
def test_a_file_of_providers_that_makes_no_sense_names_the_field(tmp_path, text: str, named: str) -> None:
    path = tmp_path / "providers.json"
    path.write_text(text)
    with pytest.raises(ProvidersError, match=named):
        read_entries(path)
    with pytest.raises(ProvidersError, match="No such file"):
        read_entries(tmp_path / "none")


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=60), st.floats(0.5, 50))
def test_a_bucket_never_gives_out_more_than_its_rate(steps: list[float], rate: float) -> None:
    """In any second there are as many places as the rate says, and what may be made at once."""
    bucket, now, places = LocalRateLimit(), 100.0, []
    for step in steps:
        now += step
        with suppress(CallDelayedError):
            places.append(now + bucket.take(now, per_second=rate))
            assert places[-1] - now <= MAX_WAIT_SECONDS
    for begin in places:
        assert sum(begin <= place < begin + 1 for place in places) <= rate * 1.5 + 2


def test_a_bucket_that_rests_gives_out_nothing_before_the_end() -> None:
    bucket = LocalRateLimit()
    bucket.pause(10.0, 1.5)
    bucket.pause(10.0, 0.5)
    assert bucket.take(10.5, per_second=None) == 1.0
    bucket.pause(10.0, 60)
    with pytest.raises(CallDelayedError):
        bucket.take(10.5, per_second=None)
