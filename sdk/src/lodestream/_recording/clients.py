"""The clients of a process, and which of them a call is for.

One project in the process: its client, the newest if there are several. Several projects: the client that the context
names, by `Lodestream.as_current()` or by the observation that is current. Where nothing names one, nothing is recorded,
and that is logged: data never goes to a project by guess.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context, create_key, set_value

from lodestream._diagnostics import warn_once
from lodestream._receipts import FlushReceipt
from lodestream._recording.context import Entered, current_context, enter, leave
from lodestream._recording.recorder import Recorder
from lodestream._recording.span import Observation
from lodestream._settings import Settings

_lock = threading.RLock()  # a signal handler may come in that traces


class Client(Protocol):
    """A client, as far as what is recorded has to do with it."""

    settings: Settings
    _recorder: Recorder

    def flush(self, timeout: float = 10.0) -> FlushReceipt: ...
    def shutdown(self) -> FlushReceipt: ...


C = TypeVar("C", bound=Client)
CURRENT_CLIENT = create_key("lodestream-client")
"""The key in a context of the client that is meant, and of the span that was current when it was named."""


class CurrentClient(Generic[C]):
    """A context manager: within the block, calls are for one client."""

    def __init__(self, client: C) -> None:
        self._client, self._entered = client, list[Entered]()

    def __enter__(self) -> C:
        context = current_context()
        self._entered.append(enter(set_value(CURRENT_CLIENT, (self._client, trace.get_current_span(context)), context)))
        return self._client

    def __exit__(self, *_: object) -> None:
        if self._entered:
            leave(self._entered.pop())


def current_client(*, public_key: str | None = None) -> Client:
    """The client that this call is for; made from the environment where there is none.

    Args:
        public_key: The key of a client's project, for programs with several. Without it: the client of the current
            context (`Lodestream.as_current()`, or that of the current observation), else the process's only one.

    Where there is no such client, or it is not clear which one is meant, a client is given that records nothing, and
    the reason is logged.
    """
    if public_key is None and (certain := _known.certain) is not None:
        return certain
    return client_for(current_context(), public_key)


def client_for(context: Context, public_key: str | None = None) -> Client:
    """Return the client that is meant in a context, or by a key."""
    if _known.certain is not None and public_key is None:
        return _known.certain
    if _known.override is not None:
        return _known.override
    if public_key is not None:
        return _with_key(public_key)
    if (named := client_named_by(context)) is not None:
        return named
    clients = _candidates()
    if not clients:
        return _from_environment()
    if len({client.settings.project for client in clients}) == 1:
        return clients[-1]
    keys = ", ".join(repr(client.settings.public_key) for client in clients)
    return _none(
        f"there are clients of several projects (public keys {keys}) and nothing says which one is meant: nothing is "
        "recorded. Use get_client(public_key=…), or `with client.as_current():` around the call"
    )


def client_named_by(context: Context) -> Client | None:
    """The client that a context names, by `as_current()` or by the observation that is current in it."""
    span: Any = trace.get_current_span(context)
    named: Any = context.get(CURRENT_CLIENT)
    client: Client | None = span._recorder.client if type(span) is Observation else None
    if client is not None and (named is None or span is not named[1]):
        return client
    return named[0] if named is not None else None


def clients() -> list[Client]:
    """Return the clients that were made and not shut down."""
    return list(_known.clients)


def make_clients_with(factory: Callable[..., Client]) -> None:
    """Make the clients that nobody made, which are needed all the same, with this factory."""
    global _make  # noqa: PLW0603 - one process, one state
    _make = factory


def register(client: Client) -> None:
    """From now on it may be meant by a call. Again after its settings changed."""
    with _lock:
        _known.clients = [*(other for other in _known.clients if other is not client), client]
        _known.projects.add(client.settings.project)
        _known.decide()


def unregister(client: Client) -> None:
    """Forget a client that was shut down."""
    with _lock:
        _known.clients = [other for other in _known.clients if other is not client]
        _known.decide()


@contextmanager
def isolated(*, override: bool = False) -> Iterator[None]:
    """For tests: within the block there are no clients but those that are made in it.

    `override`: all calls are for the first that is made.
    """
    global _known  # noqa: PLW0603 - one process, one state
    before, _known = _known, _Known(overrides=override)
    try:
        yield
    finally:
        _known = before


class _Known:
    """The clients, and the one that every call is for as long as that is certain."""

    def __init__(self, *, overrides: bool = False) -> None:
        self.clients: list[Client] = []
        self.projects: set[Any] = set()
        """The projects of all clients there were: an observation of one that was shut down may still be current."""
        self.overrides = overrides
        self.override: Client | None = None
        self.certain: Client | None = None

    def decide(self) -> None:
        if self.overrides and self.override is None and self.clients:
            self.override = self.clients[0]
        candidates = _candidates(self.clients)
        several = len(self.projects - {None}) > 1
        self.certain = self.override or (candidates[-1] if candidates and not several else None)


_known = _Known()


def _candidates(clients: list[Client] | None = None) -> list[Client]:
    """The ones that record; if none does, those that are switched off."""
    clients = _known.clients if clients is None else clients
    return [client for client in clients if client.settings.project is not None] or clients


def _with_key(public_key: str) -> Client:
    for client in reversed(_known.clients):
        if client.settings.public_key == public_key:
            return client
    if os.environ.get("LODESTREAM_PUBLIC_KEY") == public_key:
        return _from_environment()
    return _none(f"there is no client with the public key {public_key!r}: make one with Lodestream(public_key=…)")


def _from_environment() -> Client:
    with _lock:
        if (certain := _known.certain) is not None:
            return certain
        made = _make()
    if _known.projects - {None} and not made.settings.tracing_enabled:
        warn_once("no client", "every client of this process was shut down: nothing is recorded")
    return made


def _none(reason: str) -> Client:
    """A client that records nothing, because of this."""
    warn_once("no client", reason)
    global _silent  # noqa: PLW0603 - one process, one state
    if _silent is None:
        with isolated():
            _silent = _make(tracing_enabled=False)
    return _silent


_silent: Client | None = None
_make: Callable[..., Client]


def _renew_lock() -> None:
    """In the child of a fork: whoever held it is not in this process."""
    global _lock  # noqa: PLW0603 - one process, one state
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
