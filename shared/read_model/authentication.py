"""Which project a call's API key belongs to, remembered for a minute, so that a request costs no query.

`authorization: Bearer <secret key>` or `Basic base64(<public key>:<secret key>)`, as Langfuse's and OpenTelemetry's
clients send it.
"""

import asyncio
import base64
import binascii
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from shared.read_model.keys import hash_secret, is_mistyped

FRESH_SECONDS = 60.0
"""A revoked key is refused after this time at the latest."""
STALE_SECONDS = 900.0
"""While Postgres is away a key that was good is taken for this long."""
_UNKNOWN_SECONDS = 5.0
_REMEMBERED = 10_000
_MAX_HEADER = 4_096
_LOOK_UP_SECONDS = 5.0


class UnauthenticatedError(Exception):
    """The call's API key is missing, wrong or revoked. The message may be shown to the caller."""


class KeysUnavailableError(Exception):
    """The key can't be checked now: the database does not answer."""


@dataclass(frozen=True, slots=True)
class _Known:
    project_id: str | None
    """None: there is no such key."""
    public_key: str | None
    looked_up_at: float


class Authenticator:
    """Answers with the project of a key. One look-up at a time for a key; others wait for its answer."""

    def __init__(self, pool: asyncpg.Pool, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`pool` reaches the database with the table api_keys."""
        self._pool = pool
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._looking_up: dict[bytes, asyncio.Task[_Known]] = {}

    async def project_of(self, authorization: str | None) -> str:
        """The project id.

        Raises UnauthenticatedError, or KeysUnavailableError when the key is not remembered and can't be looked up.
        """
        public_key, secret_key = credentials(authorization)
        if is_mistyped(secret_key):
            raise UnauthenticatedError("the secret key is mistyped: its checksum does not match")
        known = await self._find(hash_secret(secret_key))
        matches = public_key is None or (
            known.public_key is not None and hmac.compare_digest(public_key.encode(), known.public_key.encode())
        )
        if known.project_id is None or not matches:
            raise UnauthenticatedError("the API key is unknown or revoked")
        return known.project_id

    async def _find(self, secret_hash: bytes) -> _Known:
        known = self._known.get(secret_hash)
        age = self._clock() - known.looked_up_at if known else 0.0
        if known and age < (FRESH_SECONDS if known.project_id else _UNKNOWN_SECONDS):
            self._known.move_to_end(secret_hash)
            return known
        try:
            return await self._look_up_once(secret_hash)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if known and known.project_id and age < STALE_SECONDS:
                return known
            raise KeysUnavailableError("API keys can't be checked: the database does not answer") from error

    async def _look_up_once(self, secret_hash: bytes) -> _Known:
        task = self._looking_up.get(secret_hash)
        if task is None:
            task = self._looking_up[secret_hash] = asyncio.create_task(self._look_up(secret_hash))
            task.add_done_callback(lambda done: self._looked_up(secret_hash, done))
        return await asyncio.shield(task)

    def _looked_up(self, secret_hash: bytes, task: asyncio.Task[_Known]) -> None:
        self._looking_up.pop(secret_hash, None)
        if not task.cancelled():
            task.exception()  # whoever waited may have hung up; the failure is then nobody's

    async def _look_up(self, secret_hash: bytes) -> _Known:
        async with asyncio.timeout(_LOOK_UP_SECONDS):
            row = await self._pool.fetchrow(_LOOK_UP, secret_hash)
        project_id, public_key = (row["project_id"], row["public_key"]) if row else (None, None)
        known = self._known[secret_hash] = _Known(project_id, public_key, self._clock())
        self._known.move_to_end(secret_hash)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return known


def credentials(authorization: str | None) -> tuple[str | None, str]:
    """The public key (None with Bearer) and the secret key of an authorization header.

    Raises UnauthenticatedError when there is none or it can't be read.
    """
    if not authorization:
        raise UnauthenticatedError(
            "no API key: send authorization metadata, Bearer <secret key> or Basic <public:secret>"
        )
    scheme, _, value = authorization.strip().partition(" ")
    value = value.strip()
    if len(authorization) > _MAX_HEADER or not value:
        raise UnauthenticatedError("the authorization metadata is empty or too long")
    match scheme.lower():
        case "bearer":
            return None, value
        case "basic":
            return _basic(value)
    raise UnauthenticatedError(f"the authorization scheme is {scheme[:20]!r}; use Bearer or Basic")


def _basic(value: str) -> tuple[str, str]:
    try:
        public_key, colon, secret_key = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise UnauthenticatedError("the Basic authorization is not base64 of public:secret") from None
    if not (public_key and colon and secret_key):
        raise UnauthenticatedError("the Basic authorization is not base64 of public:secret")
    return public_key, secret_key


_LOOK_UP = "SELECT project_id, public_key FROM api_keys WHERE secret_hash = $1 AND revoked_at IS NULL"
