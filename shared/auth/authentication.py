"""Which project a call's API key belongs to, remembered for a while, so that a request costs no query.

`authorization: Bearer <secret key>` or `Basic base64(<public key>:<secret key>)`, as Langfuse's and OpenTelemetry's
clients send it.

Known and unknown keys are remembered apart, and unknown ones are looked up a few at a time and, for each address, only
so often: a flood of wrong keys costs the known ones neither their memory nor their connections.
"""

import asyncio
import base64
import binascii
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg
from prometheus_client import Counter

from shared.auth.address_throttle import AddressThrottle
from shared.auth.keys import hash_secret, is_mistyped
from shared.runtime.lru_cache import LruCache
from shared.runtime.settings import KeySettings
from shared.runtime.single_flight import SingleFlight
from shared.storage.postgres import DATABASE_ERRORS

STALE_SECONDS = 900.0
"""While Postgres is away a key that was good is taken for this long."""
REMEMBERED = 10_000
"""Of known keys, and as many of unknown ones."""
_UNKNOWN_SECONDS = 5.0
_MAX_HEADER = 4_096
_LOOK_UP_SECONDS = 5.0
_LOOK_UPS_OF_UNKNOWN = 2
"""Connections that keys not known yet may take at once; processes have at least four, known keys the others."""
UNKNOWN_KEYS = Counter(
    "lodestream_unknown_keys",
    "Calls with an API key that is unknown or revoked: looked up in the database, remembered as unknown, or throttled",
    ["answer"],
)
for _answer in ("looked_up", "remembered", "throttled"):
    UNKNOWN_KEYS.labels(_answer)


class UnauthenticatedError(Exception):
    """The call's API key is missing, wrong or revoked. The message may be shown to the caller."""


class KeysUnavailableError(Exception):
    """The key can't be checked now: the database does not answer."""


@dataclass(frozen=True, slots=True)
class _Known:
    project_id: str
    public_key: str
    looked_up_at: float


class _ThrottledError(Exception):
    """The address has tried too many unknown keys."""


class Authenticator:
    """Answers with the project of a key. One look-up at a time for a key; others wait for its answer."""

    def __init__(
        self, pool: asyncpg.Pool, settings: KeySettings | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`pool` reaches the database with the table api_keys."""
        self.settings = settings or KeySettings()
        self.fresh_seconds = self.settings.recheck_seconds * 3 / 4
        """A known key is looked up again after this time; open streams ask each quarter of `recheck_seconds`."""
        self._pool = pool
        self._clock = clock
        self._known: LruCache[bytes, _Known] = LruCache(REMEMBERED)
        self._unknown: LruCache[bytes, float] = LruCache(REMEMBERED)  # until when
        self._look_ups: SingleFlight[_Known | None] = SingleFlight()
        self._unknown_turns = asyncio.Semaphore(_LOOK_UPS_OF_UNKNOWN)
        self._throttle = AddressThrottle(
            per_second=self.settings.unknown_per_second, burst=self.settings.unknown_burst, clock=clock
        )

    async def project_of(self, authorization: str | None, address: Callable[[], str] = str) -> str:
        """The project id. `address` tells where the call comes from; it is asked only when the key is not known.

        Raises UnauthenticatedError, or KeysUnavailableError when the key is not remembered and can't be looked up: the
        database does not answer, or the address has tried too many unknown keys.
        """
        public_key, secret_key = credentials(authorization)
        if is_mistyped(secret_key):
            raise UnauthenticatedError("the secret key is mistyped: its checksum does not match")
        try:
            known = await self._find(hash_secret(secret_key), address)
        except _ThrottledError:
            UNKNOWN_KEYS.labels("throttled").inc()
            # The key may be good, and exporters drop what is refused as unauthenticated.
            raise KeysUnavailableError(
                "the API key was not looked up: too many unknown keys came from this address, try again later"
            ) from None
        if known is None or not (
            public_key is None or hmac.compare_digest(public_key.encode(), known.public_key.encode())
        ):
            raise UnauthenticatedError("the API key is unknown or revoked")
        return known.project_id

    async def _find(self, secret_hash: bytes, address: Callable[[], str]) -> _Known | None:
        known, now = self._known.get(secret_hash), self._clock()
        if known and now - known.looked_up_at < self.fresh_seconds:
            return known
        if not known and now < (self._unknown.peek(secret_hash) or now):
            UNKNOWN_KEYS.labels("remembered").inc()
            return None
        try:
            if known:
                return await self._look_ups.run(secret_hash, lambda: self._look_up(secret_hash))
            return await self._find_unknown(secret_hash, address())
        except DATABASE_ERRORS as error:
            if known and now - known.looked_up_at < STALE_SECONDS:
                return known
            raise KeysUnavailableError("API keys can't be checked: the database does not answer") from error

    async def _find_unknown(self, secret_hash: bytes, address: str) -> _Known | None:
        while self._throttle.allows(address):
            try:
                return await self._look_ups.run(secret_hash, lambda: self._look_up_in_turn(secret_hash, address))
            except _ThrottledError:
                pass  # the look-up was another address's, perhaps: ours may still have a token
        raise _ThrottledError

    async def _look_up_in_turn(self, secret_hash: bytes, address: str) -> _Known | None:
        """Look up a key that is not known, when it is its turn; a key that does not exist costs the address a token.

        Raises _ThrottledError when the address has none left by then.
        """
        async with asyncio.timeout(_LOOK_UP_SECONDS), self._unknown_turns:
            if not self._throttle.allows(address):
                raise _ThrottledError
            known = await self._look_up(secret_hash)
            if known is None:
                self._throttle.charge(address)
            return known

    async def _look_up(self, secret_hash: bytes) -> _Known | None:
        async with asyncio.timeout(_LOOK_UP_SECONDS):
            row = await self._pool.fetchrow(_LOOK_UP, secret_hash)
        if row is None:
            UNKNOWN_KEYS.labels("looked_up").inc()
            self._known.pop(secret_hash)
            self._unknown[secret_hash] = self._clock() + _UNKNOWN_SECONDS
            return None
        known = _Known(row["project_id"], row["public_key"], self._clock())
        self._unknown.pop(secret_hash)
        self._known[secret_hash] = known
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
