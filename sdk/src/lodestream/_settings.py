"""Settings: an argument wins over the environment, which wins over the default."""

import hashlib
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import unquote

from lodestream._diagnostics import warn_once
from lodestream._version import __version__

DEFAULT_ENDPOINT = "127.0.0.1:4317"
_PORT = 4317
_HOST = re.compile(r"[\w.-]+")
_TLS, _PLAIN = {"https", "grpcs"}, {"http", "grpc", "insecure"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A target as gRPC names it."""

    target: str
    tls: bool


def parse_endpoint(text: str) -> Endpoint:
    """`host:port`, with `https://` in front for TLS or `http://` (`insecure://`) for plaintext.

    Without a scheme only this machine itself is spoken to in plaintext. Raises ValueError.
    """
    text = text.strip()
    if text.startswith("unix:"):
        return Endpoint(text, tls=False)
    scheme, separator, address = text.rpartition("://")
    scheme, address = scheme.lower(), address.rstrip("/")
    if not address or (separator and scheme not in _TLS | _PLAIN):
        raise ValueError(f"{text!r} is not host:port, https://host:port or http://host:port")
    host, port = _split(address)
    tls = scheme in _TLS if separator else not _is_loopback(host)
    return Endpoint(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", tls)


def _split(address: str) -> tuple[str, int]:
    host, separator, port = address.rpartition(":")
    if not separator or port.endswith("]") or _is_ipv6(address):
        host, port = address, str(_PORT)
    inner = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (_HOST.fullmatch(inner) or _is_ipv6(inner)) or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not host:port")
    return inner, int(port)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


Fsync = Literal["interval", "always", "never"]
Mask = Callable[..., Any]
"""Called as `mask(data=…)` with a copy of what is to be sent; returns what may be kept. See `_recording.masking`."""
ShouldExport = Callable[[Any], bool]
"""Called with a `ReadableSpan` of another tracer provider; says whether it is sent."""

MIB = 1024 * 1024
_DEFAULT_COUNT = 1_000
_SAMPLERS: Mapping[str, float | None] = {"always_on": 1.0, "always_off": 0.0, "traceidratio": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanLimits:
    """What is beyond a count is dropped and counted in the span; a text beyond a length is cut.

    OpenTelemetry's SDK specification, "Span Limits". The fields are named as in opentelemetry-sdk, whose defaults are
    128 each; ours are larger because prompts, messages and documents come as attributes.
    """

    max_span_attributes: int = _DEFAULT_COUNT
    """OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT, else OTEL_ATTRIBUTE_COUNT_LIMIT."""
    max_events: int = _DEFAULT_COUNT
    """OTEL_SPAN_EVENT_COUNT_LIMIT."""
    max_links: int = _DEFAULT_COUNT
    """OTEL_SPAN_LINK_COUNT_LIMIT."""
    max_event_attributes: int = _DEFAULT_COUNT
    """OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT, else OTEL_ATTRIBUTE_COUNT_LIMIT."""
    max_link_attributes: int = _DEFAULT_COUNT
    """OTEL_LINK_ATTRIBUTE_COUNT_LIMIT, else OTEL_ATTRIBUTE_COUNT_LIMIT."""
    max_span_attribute_length: int | None = None
    """OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT, else OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT. Characters; None: no limit."""
    max_attribute_length: int | None = None
    """OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT: of the attributes of events and links."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that can be set. Each field is an argument of `Lodestream()`; its variable is named beside it."""

    endpoint: Endpoint = parse_endpoint(DEFAULT_ENDPOINT)  # noqa: RUF009 - immutable
    """LODESTREAM_ENDPOINT."""
    public_key: str = ""
    """LODESTREAM_PUBLIC_KEY."""
    secret_key: str = field(default="", repr=False)
    """LODESTREAM_SECRET_KEY. With neither key nor endpoint given, tracing is off."""
    environment: str = ""
    """LODESTREAM_ENVIRONMENT: for example "production"; empty for the server's default."""
    release: str = ""
    """LODESTREAM_RELEASE: the version of the application."""
    sample_rate: float = 1.0
    """LODESTREAM_SAMPLE_RATE: the share of traces that are kept, 0 to 1, decided by the trace id."""
    parent_based: bool = True
    """OTEL_TRACES_SAMPLER without "parentbased_": whether a span with a parent shares the decision of that."""
    tracing_enabled: bool = True
    """LODESTREAM_TRACING_ENABLED, and OTEL_SDK_DISABLED the other way round."""
    capture_io: bool = True
    """LODESTREAM_OBSERVE_DECORATOR_IO_CAPTURE_ENABLED: whether `observe` keeps arguments and results."""
    spool_dir: Path | None = None
    """LODESTREAM_SPOOL_DIR. Default: lodestream/spool in XDG_STATE_HOME or ~/.local/state."""
    spool_max_bytes: int = 256 * MIB
    """LODESTREAM_SPOOL_MAX_BYTES: what a process keeps on disk at most; beyond, the oldest is dropped."""
    memory_max_bytes: int = 16 * MIB
    """LODESTREAM_MEMORY_MAX_BYTES: the same for what is not on disk."""
    flush_interval: float = 0.5
    """LODESTREAM_FLUSH_INTERVAL: seconds that spans are gathered for before they are sent."""
    fsync: Fsync = "interval"
    """LODESTREAM_FSYNC: interval (twice a second), always, never. What the power supply may take with it."""
    emit_starts: bool = False
    """LODESTREAM_EMIT_STARTS: tell also that a span began, so that running ones can be seen."""
    debug: bool = False
    """LODESTREAM_DEBUG: log what is done."""
    service_name: str = ""
    """OTEL_SERVICE_NAME."""
    resource_attributes: Mapping[str, str] = field(default_factory=dict)
    """OTEL_RESOURCE_ATTRIBUTES: key=value,key=value."""
    span_limits: SpanLimits = SpanLimits()
    """OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT and its like."""
    global_tracing: bool = True
    """LODESTREAM_GLOBAL_TRACING: whether the client takes part in what the process traces: is its tracer provider where
    there is none, and adds a `LodestreamSpanProcessor` to it where there is one."""
    mask: Mask | None = None
    should_export_span: ShouldExport | None = None
    awaits_keys: bool = False
    """Whether it is for want of keys that tracing is off: they may come later."""

    @property
    def project(self) -> tuple[Endpoint, str] | None:
        """What tells projects apart: the server, and the key. None where tracing is off."""
        return (self.endpoint, self.public_key or self.secret_key) if self.tracing_enabled else None


def resolve(given: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """The settings. A value that makes no sense is told, and what comes after it is used instead."""
    chosen: dict[str, Any] = {}
    for name, (variable, parse) in _READ.items():
        for source, value in ((f"{name}=", given.get(name)), (variable, environ.get(variable) or None)):
            if value is None:
                continue
            try:
                chosen[name] = parse(value)
                break
            except Exception as error:
                warn_once(source, f"{source}: {error}; it is ignored")
    if unknown := given.keys() - _READ.keys() - {"mask", "should_export_span"}:
        warn_once("settings", f"unknown settings are ignored: {', '.join(sorted(unknown))}")
    rate, parent_based = _otel_sampler(environ)
    if rate is not None:
        chosen.setdefault("sample_rate", rate)
    settings = Settings(
        **chosen,
        parent_based=parent_based,
        span_limits=limits_from(environ),
        mask=given.get("mask"),
        should_export_span=given.get("should_export_span"),
    )
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return replace(settings, tracing_enabled=False)
    if settings.tracing_enabled and not settings.secret_key and "endpoint" not in chosen:
        warn_once(
            "keys", "tracing is off: set LODESTREAM_PUBLIC_KEY and LODESTREAM_SECRET_KEY (or LODESTREAM_ENDPOINT)"
        )
        return replace(settings, tracing_enabled=False, awaits_keys=True)
    return settings


def has_keys(environ: Mapping[str, str]) -> bool:
    """Whether the environment says where to send."""
    return bool(environ.get("LODESTREAM_SECRET_KEY") or environ.get("LODESTREAM_ENDPOINT"))


def resource_attributes(settings: Settings) -> dict[str, str]:
    """What the spans of this process are of, in OpenTelemetry's words."""
    ours = {
        "telemetry.sdk.name": "lodestream",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": __version__,
        "service.name": settings.service_name,
        "lodestream.environment": settings.environment,
        "lodestream.release": settings.release,
    }
    attributes = {"service.name": "unknown_service:python", **settings.resource_attributes}
    return attributes | {key: value for key, value in ours.items() if value}


def default_spool_dir(environ: Mapping[str, str]) -> Path:
    """Where the state of a user's programs lives. Raises RuntimeError when there is no home."""
    state = environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "lodestream" / "spool"


def _key(value: Any) -> str:
    key = str(value).strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("a key has only printable ASCII characters")
    return key


def _folder(value: Any) -> Path:
    path = Path(value).expanduser()
    if "\0" in str(path):
        raise ValueError(f"{str(path)!r} is not a path")
    return path


def _flag(value: Any) -> bool:
    match str(value).strip().lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off":
            return False
    raise ValueError(f"{value!r} is neither true nor false")


def _rate(value: Any) -> float:
    rate = float(value)
    if not 0 <= rate <= 1:
        raise ValueError(f"{value!r} is not between 0 and 1")
    return rate


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not 0 < seconds <= 3600:
        raise ValueError(f"{value!r} is not a number of seconds above 0, up to 3600")
    return seconds


def _bytes(value: Any) -> int:
    number = int(value)
    if number < 65_536:
        raise ValueError(f"{value!r} is less than 65536 bytes")
    return number


def _fsync(value: Any) -> Fsync:
    for known in get_args(Fsync):
        if value == known:
            return known  # type: ignore[no-any-return]
    raise ValueError(f"{value!r} is none of {', '.join(get_args(Fsync))}")


def _otel_sampler(environ: Mapping[str, str]) -> tuple[float | None, bool]:
    """The share of OTEL_TRACES_SAMPLER, None if it names none, and whether it is a parent-based one."""
    variable = "OTEL_TRACES_SAMPLER"
    name = environ.get(variable, "").strip().lower()
    kind = name.removeprefix("parentbased_")
    if name and kind not in _SAMPLERS:
        warn_once(
            variable, f"{variable}={name!r} is none of {', '.join(_SAMPLERS)}, parentbased_ or not; it is ignored"
        )
        return None, True
    if kind != "traceidratio":
        return _SAMPLERS.get(kind), not name or kind != name
    try:
        return _rate(environ.get(f"{variable}_ARG") or 1.0), kind != name
    except ValueError as error:
        warn_once(f"{variable}_ARG", f"{variable}_ARG: {error}; it is ignored")
        return None, kind != name


def _pairs(value: Any) -> Mapping[str, str]:
    if isinstance(value, Mapping):
        return {str(key): str(item) for key, item in value.items()}
    pairs = {}
    for pair in filter(None, (part.strip() for part in str(value).split(","))):
        key, separator, item = pair.partition("=")
        if not separator or not key:
            raise ValueError(f"{pair!r} is not key=value")
        pairs[key.strip()] = unquote(item.strip())
    return pairs


_READ: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "endpoint": ("LODESTREAM_ENDPOINT", parse_endpoint),
    "public_key": ("LODESTREAM_PUBLIC_KEY", _key),
    "secret_key": ("LODESTREAM_SECRET_KEY", _key),
    "environment": ("LODESTREAM_ENVIRONMENT", str),
    "release": ("LODESTREAM_RELEASE", str),
    "sample_rate": ("LODESTREAM_SAMPLE_RATE", _rate),
    "tracing_enabled": ("LODESTREAM_TRACING_ENABLED", _flag),
    "capture_io": ("LODESTREAM_OBSERVE_DECORATOR_IO_CAPTURE_ENABLED", _flag),
    "spool_dir": ("LODESTREAM_SPOOL_DIR", _folder),
    "spool_max_bytes": ("LODESTREAM_SPOOL_MAX_BYTES", _bytes),
    "memory_max_bytes": ("LODESTREAM_MEMORY_MAX_BYTES", _bytes),
    "flush_interval": ("LODESTREAM_FLUSH_INTERVAL", _seconds),
    "fsync": ("LODESTREAM_FSYNC", _fsync),
    "emit_starts": ("LODESTREAM_EMIT_STARTS", _flag),
    "debug": ("LODESTREAM_DEBUG", _flag),
    "global_tracing": ("LODESTREAM_GLOBAL_TRACING", _flag),
    "service_name": ("OTEL_SERVICE_NAME", str),
    "resource_attributes": ("OTEL_RESOURCE_ATTRIBUTES", _pairs),
}


def spool_root(settings: Settings) -> Path | None:
    """What is left in it is delivered to where it was meant to go. None, and that is told, where there is no place."""
    try:
        root = settings.spool_dir or default_spool_dir(os.environ)
    except RuntimeError as error:
        warn_once("the spool", f"spans are kept in memory only, set LODESTREAM_SPOOL_DIR: {error}")
        return None
    recipient = f"{settings.endpoint.target}\n{settings.public_key or settings.secret_key}"
    return root.absolute() / hashlib.sha256(recipient.encode()).hexdigest()[:16]


def prompts_dir(settings: Settings) -> Path | None:
    """For prompts that were seen last; beside the spools, none of which has this name."""
    spool = spool_root(settings)
    return spool.parent / "prompts" / spool.name if spool else None


_NAMES = ("LODESTREAM_AUTHOR", "OTEL_SERVICE_NAME", "USER")


def author() -> str:
    """Return who makes a change: whom the environment names, else the service, else the user."""
    return next((value for name in _NAMES if (value := os.environ.get(name))), "")


def limits_from(environ: Mapping[str, str]) -> "SpanLimits":
    """The limits that the environment sets. A value that is no number is logged, and the default holds."""
    counts = _number(environ, "OTEL_ATTRIBUTE_COUNT_LIMIT")
    length = _number(environ, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")

    def count(variable: str, general: int | None = None) -> int:
        for limit in (_number(environ, variable), general):
            if limit is not None:
                return limit
        return _DEFAULT_COUNT

    span_length = _number(environ, "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT")
    return SpanLimits(
        max_span_attributes=count("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", counts),
        max_events=count("OTEL_SPAN_EVENT_COUNT_LIMIT"),
        max_links=count("OTEL_SPAN_LINK_COUNT_LIMIT"),
        max_event_attributes=count("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", counts),
        max_link_attributes=count("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", counts),
        max_span_attribute_length=length if span_length is None else span_length,
        max_attribute_length=length,
    )


def _number(environ: Mapping[str, str], variable: str) -> int | None:
    text = environ.get(variable, "").strip()
    if not text:
        return None
    if text.isdecimal():
        return int(text)
    warn_once(variable, f"{variable}={text!r} is not a whole number from 0; it is ignored")
    return None
