"""Page tokens: where the last page ended, bound to the request it was made for."""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any

import asyncpg
import orjson
from google.protobuf.message import Message

from services.read.query.database import Database
from services.read.query.nouns import microseconds_since_1970
from shared.runtime.refusal import InvalidError

DEFAULT_SIZE, MAX_SIZE = 50, 1_000
PAGE_BYTES = 2 * 1024 * 1024
"""A page of large rows ends early: clients take 4 MiB by default."""
_AT_ONCE = 50
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_OURS = "it is not a token of this service"


def page_size(asked: int) -> int:
    """How many rows a page has."""
    if asked > MAX_SIZE:
        raise InvalidError("page_size", f"{asked} is more than {MAX_SIZE}")
    return asked or DEFAULT_SIZE


class Int4(int):
    """The kind of a key that is an `integer` column, half as wide as a `bigint` one."""


def to_token(request: bytes, last: Sequence[str | float | datetime | bytes | None]) -> str:
    """A token for the page after the row with these sort keys; `request` is what must not change."""
    keys = [_told(key) for key in last]
    return base64.urlsafe_b64encode(orjson.dumps([_fingerprint(request), *keys])).decode().rstrip("=")


def from_token(request: bytes, token: str, *kinds: type) -> list[Any] | None:
    """The sort keys of the last row seen, as the database takes them; None for the first page.

    `kinds` are their types: int (a bigint), Int4, float, str, datetime, bytes. Tokens are not signed: whatever the
    caller wrote is either a value of its type or refused.

    Raises InvalidError naming page_token for what is no token of this request.
    """
    if not token:
        return None
    try:
        fingerprint, *last = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, TypeError, binascii.Error):
        raise InvalidError("page_token", _NOT_OURS) from None
    if fingerprint != _fingerprint(request):
        raise InvalidError("page_token", "it belongs to a request with another filter or sort")
    if len(last) != len(kinds):
        raise InvalidError("page_token", _NOT_OURS)
    return [_key(told, kind) for told, kind in zip(last, kinds, strict=True)]


@asynccontextmanager
async def snapshot(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A connection whose statements all see the same moment."""
    async with (
        database.searches.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield connection


async def fetch_page(
    connection: asyncpg.Connection,
    statement: str,
    parameters: Sequence[Any],
    size: int,
    begun: Sequence[asyncpg.Record] = (),
) -> tuple[list[asyncpg.Record], bool]:
    """At most `size` rows, none but the first beyond PAGE_BYTES, and whether there are more; within a transaction.

    `begun`: rows of another statement, which the page has already. This statement's own limit is at least one row more.
    """
    rows = list(begun)
    room = PAGE_BYTES - sum(map(weight, rows))
    async for row in connection.cursor(statement, *parameters, prefetch=min(size + 1, _AT_ONCE)):
        room -= weight(row)
        if len(rows) == size or (rows and room < 0):
            return rows, True
        rows.append(row)
    return rows, False


async def add_each(messages: Any, rows: Iterable[Any], fields_of: Callable[[Any], dict[str, Any]]) -> None:
    """Add a message for each row to a repeated field; other calls go on between some and the next."""
    for number, row in enumerate(rows, start=1):
        messages.add(**fields_of(row))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)


def fitting_in_a_page(messages: Sequence[Message]) -> int:
    """How many messages a page takes that are larger than the rows they were made of."""
    room = PAGE_BYTES
    for n, message in enumerate(messages):
        room -= message.ByteSize()
        if n and room < 0:
            return n
    return len(messages)


def weight(row: asyncpg.Record) -> int:
    """Of a row's texts and bytes, about the bytes that its message has."""
    return sum(len(value) for value in row.values() if isinstance(value, str | bytes))


def _told(key: str | float | datetime | bytes | None) -> str | float | None:
    """A key as JSON has it: times as µs since 1970, bytes in hex."""
    if isinstance(key, datetime):
        return microseconds_since_1970(key)
    return key.hex() if isinstance(key, bytes) else key


def _key(told: Any, kind: type) -> Any:
    """What a key of this type says.

    Raises InvalidError for what no column of the type can hold.
    """
    try:
        match told:
            case bool():
                pass  # to Python it is an int
            case int() if issubclass(kind, int) and -(bound := 2**31 if kind is Int4 else 2**63) <= told < bound:
                return told
            case int() if kind is datetime:
                return _EPOCH + timedelta(microseconds=told)
            case float() if kind is float and isfinite(told):
                return told
            case str() if kind is str and "\0" not in told:
                return told
            case str() if kind is bytes:
                return bytes.fromhex(told)
    except (ValueError, OverflowError):
        pass
    raise InvalidError("page_token", _NOT_OURS)


def _fingerprint(request: bytes) -> str:
    return hashlib.blake2b(request, digest_size=8).hexdigest()
