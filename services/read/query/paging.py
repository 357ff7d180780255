"""Pages of lists: their sizes, the sorts that they follow, and tokens that say where the last page ended."""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any, Self

import asyncpg
import orjson
from google.protobuf.message import Message

from services.read.query.database import Database
from services.read.query.filters import Conditions, Statement
from services.read.query.messages import datetime_of, microseconds_since_1970
from shared.runtime.refusal import InvalidError

DEFAULT_SIZE, MAX_SIZE = 50, 1_000
PAGE_BYTES = 2 * 1024 * 1024
"""A page of large rows ends early: clients take 4 MiB by default."""
_AT_ONCE = 50
_PAGING_FIELDS = ("page_size", "page_token", "wait_for")
_NOT_OURS = "it is not a token of this service"
Key = str | float | datetime | bytes | None
"""A value of a column that a list is sorted by."""


def page_size(requested: int) -> int:
    """Return the number of rows of a page; 0 requests the default.

    Raises InvalidError naming page_size for more than MAX_SIZE.
    """
    if requested > MAX_SIZE:
        raise InvalidError("page_size", f"{requested} is more than {MAX_SIZE}")
    return requested or DEFAULT_SIZE


def without_paging(request: Message) -> bytes:
    """Return what must be the same from page to page: a request without its page, serialized."""
    kept = type(request)()
    kept.CopyFrom(request)
    kept.DiscardUnknownFields()
    for field in _PAGING_FIELDS:
        if field in kept.DESCRIPTOR.fields_by_name:
            kept.ClearField(field)
    return kept.SerializeToString(deterministic=True)


class Int4(int):
    """The type of a key that is an `integer` column, half as wide as a `bigint` one."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page of a list is requested."""

    size: int
    """Rows, at most."""
    bound: bytes
    """What must be the same from page to page."""
    last: list[Any] | None
    """The sort keys of the row that the page begins after; None for the first page."""

    @classmethod
    def of(cls, request: Any, *key_types: type, bound: bytes | None = None) -> Self:
        """Read `page_size` and `page_token` of a request.

        Args:
            request: The request; its other fields must be the same from page to page, unless `bound` is given.
            key_types: The types of the sort keys, as for `from_token`.
            bound: What must be the same instead.

        Raises InvalidError naming the field that can't be used.
        """
        bound = without_paging(request) if bound is None else bound
        return cls(page_size(request.page_size), bound, from_token(bound, request.page_token, *key_types))

    def token_after(self, *keys: Key) -> str:
        """Return the token of the page after the row with these sort keys."""
        return to_token(self.bound, keys)

    def cut(self, rows: Sequence[Any], *columns: str) -> tuple[Sequence[Any], str]:
        """Return the page's rows and the token of the next page, given one row more than it has where there are more.

        `columns` are those of the sort keys.
        """
        if len(rows) <= self.size:
            return rows, ""
        last = rows[self.size - 1]
        return rows[: self.size], self.token_after(*(last[column] for column in columns))

    def limit(self, conditions: Conditions) -> str:
        """Return the placeholder of the statement's limit: one row more than the page has."""
        return conditions.parameter(self.size + 1)


@dataclass(frozen=True, slots=True)
class Sort:
    """What a list is ordered by.

    Keys run all one way and end with one that is unique, so that an index read forwards or backwards serves them and
    "behind this row" is one comparison of rows. None is ever null.
    """

    keys: tuple[tuple[str, str, type], ...]
    """The expression of each key, the column of a row that holds it, and its type as for `from_token`."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a row that hold the keys."""
        return tuple(column for _, column, _ in self.keys)

    @property
    def types(self) -> tuple[type, ...]:
        """The types of the keys."""
        return tuple(key_type for _, _, key_type in self.keys)

    def order(self, *, ascending: bool) -> str:
        """Return the keys as ORDER BY has them."""
        return ", ".join(f"{expression} {'ASC' if ascending else 'DESC'}" for expression, _, _ in self.keys)

    def add_after(self, conditions: Conditions, page: PageRequest, *, ascending: bool) -> None:
        """Leave out the rows of earlier pages."""
        if page.last is None:
            return
        values = [conditions.parameter(key) for key in page.last]
        expressions = [expression for expression, _, _ in self.keys]
        conditions.add_raw(f"({', '.join(expressions)}) {'>' if ascending else '<'} ({', '.join(values)})")


def to_token(bound: bytes, keys: Sequence[Key]) -> str:
    """Return a token for the page after the row with these sort keys; `bound` is what must not change."""
    fields = [_fingerprint(bound), *map(_to_json, keys)]
    return base64.urlsafe_b64encode(orjson.dumps(fields)).decode().rstrip("=")


def from_token(bound: bytes, token: str, *key_types: type) -> list[Any] | None:
    """Return the sort keys of the last row seen, as the database takes them; None for the first page.

    Tokens are not signed: whatever the caller wrote is either a value of its type or refused.

    Args:
        bound: What the token's request must have in common with this one.
        token: The token, or "" for the first page.
        key_types: int (a bigint), Int4, float, str, datetime or bytes for each key.

    Raises InvalidError naming page_token for what is not a token of this request.
    """
    if not token:
        return None
    try:
        fingerprint, *keys = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, TypeError, binascii.Error):
        raise foreign_token() from None
    if fingerprint != _fingerprint(bound):
        raise InvalidError("page_token", "it belongs to a request with another filter or sort")
    if len(keys) != len(key_types):
        raise foreign_token()
    return [_from_json(key, key_type) for key, key_type in zip(keys, key_types, strict=True)]


def foreign_token() -> InvalidError:
    """Return the refusal of a token that this service did not make."""
    return InvalidError("page_token", _NOT_OURS)


@asynccontextmanager
async def snapshot(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Acquire a connection whose statements all see the same moment."""
    async with (
        database.search_pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield connection


async def fetch_page(
    connection: asyncpg.Connection, statement: Statement, size: int, fetched: Sequence[asyncpg.Record] = ()
) -> tuple[list[asyncpg.Record], bool]:
    """Fetch at most `size` rows, none but the first beyond PAGE_BYTES, within a transaction.

    Args:
        connection: A connection with an open transaction.
        statement: The statement; its own limit is at least one row more.
        size: The rows of the page.
        fetched: Rows of another statement, which the page has already.

    Returns: The page's rows, and whether there are more.
    """
    rows = list(fetched)
    room = PAGE_BYTES - sum(map(weight, rows))
    async for row in connection.cursor(statement.sql, *statement.parameters, prefetch=min(size + 1, _AT_ONCE)):
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
    """Return how many of some messages a page takes; they are larger than the rows they were made of."""
    room = PAGE_BYTES
    for n, message in enumerate(messages):
        room -= message.ByteSize()
        if n and room < 0:
            return n
    return len(messages)


def weight(row: asyncpg.Record) -> int:
    """Return the length of a row's texts and bytes, which is about that of its message."""
    return sum(len(value) for value in row.values() if isinstance(value, str | bytes))


def _to_json(key: Key) -> str | float | None:
    """Return a key as tokens hold it: times as microseconds since 1970, bytes in hex."""
    if isinstance(key, datetime):
        return microseconds_since_1970(key)
    return key.hex() if isinstance(key, bytes) else key


def _from_json(value: Any, key_type: type) -> Any:
    """Return the key that a token's value stands for.

    Raises InvalidError for what no column of the type can hold.
    """
    try:
        match value:
            case bool():
                pass  # to Python it is an int
            case int() if issubclass(key_type, int) and -(end := 2**31 if key_type is Int4 else 2**63) <= value < end:
                return value
            case int() if key_type is datetime:
                return datetime_of(value)
            case float() if key_type is float and isfinite(value):
                return value
            case str() if key_type is str and "\0" not in value:
                return value
            case str() if key_type is bytes:
                return bytes.fromhex(value)
    except (ValueError, OverflowError):
        pass
    raise foreign_token()


def _fingerprint(bound: bytes) -> str:
    return hashlib.blake2b(bound, digest_size=8).hexdigest()
