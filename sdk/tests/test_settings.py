"""Settings: an argument wins over the environment, which wins over the default; nonsense is told and passed over."""

import math
from pathlib import Path
from typing import Any

import pytest
from lodestream._settings import MIB, Settings, default_spool_dir, resolve

KEY = {"LODESTREAM_SECRET_KEY": "sk"}


def from_environ(**variables: str) -> Settings:
    return resolve({}, {**KEY, **variables})


def test_the_defaults() -> None:
    settings = from_environ()
    assert (settings.endpoint.target, settings.endpoint.tls) == ("127.0.0.1:4317", False)
    assert (settings.sample_rate, settings.fsync, settings.flush_interval) == (1.0, "interval", 0.5)
    assert (settings.spool_max_bytes, settings.memory_max_bytes) == (256 * MIB, 16 * MIB)
    assert settings.tracing_enabled
    assert settings.capture_io


def test_all_of_it_from_the_environment() -> None:
    settings = from_environ(
        LODESTREAM_ENDPOINT="https://gate:443",
        LODESTREAM_PUBLIC_KEY="pk",
        LODESTREAM_ENVIRONMENT="production",
        LODESTREAM_RELEASE="v1",
        LODESTREAM_SAMPLE_RATE="0.25",
        LODESTREAM_OBSERVE_DECORATOR_IO_CAPTURE_ENABLED="no",
        LODESTREAM_SPOOL_DIR="~/spool",
        LODESTREAM_SPOOL_MAX_BYTES="1048576",
        LODESTREAM_MEMORY_MAX_BYTES="65536",
        LODESTREAM_FLUSH_INTERVAL="2",
        LODESTREAM_FSYNC="always",
        LODESTREAM_EMIT_STARTS="1",
        LODESTREAM_DEBUG="ON",
        OTEL_SERVICE_NAME="shop",
        OTEL_RESOURCE_ATTRIBUTES="a=1, b = x%20y ,",
    )
    assert (settings.endpoint.target, settings.endpoint.tls) == ("gate:443", True)
    assert (settings.public_key, settings.secret_key) == ("pk", "sk")
    assert (settings.environment, settings.release, settings.service_name) == ("production", "v1", "shop")
    assert (settings.sample_rate, settings.flush_interval, settings.fsync) == (0.25, 2.0, "always")
    assert (settings.capture_io, settings.emit_starts, settings.debug) == (False, True, True)
    assert settings.spool_dir == Path.home() / "spool"
    assert (settings.spool_max_bytes, settings.memory_max_bytes) == (1048576, 65536)
    assert settings.resource_attributes == {"a": "1", "b": "x y"}


def test_an_argument_wins() -> None:
    assert resolve({"release": "mine", "environment": None}, {**KEY, "LODESTREAM_RELEASE": "x"}).release == "mine"


def test_an_empty_variable_is_none() -> None:
    assert from_environ(LODESTREAM_SAMPLE_RATE="", LODESTREAM_ENDPOINT="").sample_rate == 1.0


class Odd:
    def __str__(self) -> str:
        raise RuntimeError("odd")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sample_rate", "half"),
        ("sample_rate", 1.5),
        ("sample_rate", math.nan),
        ("sample_rate", [1]),
        ("flush_interval", 0),
        ("flush_interval", math.inf),
        ("spool_max_bytes", "256MiB"),
        ("spool_max_bytes", math.inf),
        ("memory_max_bytes", 10),
        ("fsync", "sometimes"),
        ("debug", "perhaps"),
        ("endpoint", "nowhere:port"),
        ("endpoint", 4317),
        ("spool_dir", "a\0b"),
        ("spool_dir", 5),
        ("resource_attributes", "novalue"),
        ("resource_attributes", {"a": Odd()}),
        ("release", Odd()),
    ],
)
def test_nonsense_is_told_and_the_next_source_is_used(caplog: pytest.LogCaptureFixture, name: str, value: Any) -> None:
    assert resolve({name: value}, KEY) == from_environ()
    assert f"{name}=: " in caplog.text


def test_the_environment_follows_a_bad_argument() -> None:
    assert resolve({"sample_rate": 7}, {**KEY, "LODESTREAM_SAMPLE_RATE": "0.5"}).sample_rate == 0.5


def test_unknown_arguments_are_told(caplog: pytest.LogCaptureFixture) -> None:
    resolve({"colour": "red"}, KEY)
    assert "colour" in caplog.text


@pytest.mark.parametrize("key", ["sk\n", " sk ", "sk\r\n"])
def test_keys_from_files_have_line_ends(key: str) -> None:
    assert from_environ(LODESTREAM_SECRET_KEY=key).secret_key == "sk"


@pytest.mark.parametrize("key", ["sk-sécret", "sk-sec\nret", "sk-sec\x00ret"])
def test_a_key_that_can_not_be_sent_is_told_but_not_its_text(caplog: pytest.LogCaptureFixture, key: str) -> None:
    assert not from_environ(LODESTREAM_SECRET_KEY=key).tracing_enabled
    assert "LODESTREAM_SECRET_KEY: a key has only printable ASCII characters" in caplog.text
    assert "ret" not in caplog.text.replace("SECRET", "")


def test_without_key_and_endpoint_tracing_is_off_and_that_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert not resolve({}, {}).tracing_enabled
    assert "tracing is off" in caplog.text
    assert resolve({}, {"LODESTREAM_ENDPOINT": "localhost:4317"}).tracing_enabled


@pytest.mark.parametrize(
    "variables",
    [{"OTEL_SDK_DISABLED": "True"}, {"LODESTREAM_TRACING_ENABLED": "false"}],
    ids=lambda given: next(iter(given)),
)
def test_it_can_be_switched_off(variables: dict[str, str]) -> None:
    assert not from_environ(**variables).tracing_enabled


def test_where_the_spool_is() -> None:
    assert default_spool_dir({"XDG_STATE_HOME": "/state"}) == Path("/state/lodestream/spool")
    assert default_spool_dir({}) == Path.home() / ".local/state/lodestream/spool"
