"""Projects and their API keys: made, listed, revoked. A secret is shown once; Postgres keeps its SHA-256.

A secret has 192 random bits, so a plain hash cannot be searched, and a slow one would only slow every request. Keys of
ours end in a checksum, so that a mistyped one is told without asking the database.
"""

import hashlib
import secrets
import string
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

PUBLIC_PREFIX, SECRET_PREFIX = "pk-ls-", "sk-ls-"
_ALPHABET = string.digits + string.ascii_letters
_SECRET_LENGTH, _CHECKSUM_LENGTH = 32, 6
LEAST_CHOSEN_LENGTH, LEAST_CHOSEN_DISTINCT = 32, 9
"""Characters of a secret that an operator gives. Of 100,000 times 32 random hex digits one has fewer different ones."""


@dataclass(frozen=True, slots=True)
class Project:
    """A tenant."""

    project_id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key pair; `secret_hint` is the secret's last four characters."""

    project_id: str
    public_key: str
    secret_hint: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key pair just made: the only time its secret is seen."""

    public_key: str
    secret_key: str


class NoSuchProjectError(LookupError):
    """There is no project with this id."""


class KeyTakenError(ValueError):
    """This public or secret key already belongs to another project."""


async def create_project(connection: asyncpg.Connection, project_id: str, name: str) -> bool:
    """Create a project; False when it exists already (its name is then left as it is)."""
    return bool(await connection.fetchval(_CREATE_PROJECT, project_id, name))


async def list_projects(connection: asyncpg.Connection) -> Sequence[Project]:
    """All projects by id."""
    rows = await connection.fetch("SELECT project_id, name, created_at FROM projects ORDER BY project_id")
    return [Project(*row) for row in rows]


async def create_key(connection: asyncpg.Connection, project_id: str) -> NewKey:
    """Make a key pair.

    Raises NoSuchProjectError.
    """
    key = NewKey(PUBLIC_PREFIX + _random(16), make_secret())
    await _store(connection, project_id, key)
    return key


async def seed_key(connection: asyncpg.Connection, project_id: str, name: str, key: NewKey) -> bool:
    """See to it that a project and this key pair (any strings) exist; False when they did. A revoked key stays revoked.

    Raises KeyTakenError when one of the two strings is in use otherwise.
    """
    await create_project(connection, project_id, name)
    secret_hash, hint = hash_secret(key.secret_key), key.secret_key[-4:]
    if await connection.fetchval(_SEED_KEY, project_id, key.public_key, secret_hash, hint):
        return True
    if not await connection.fetchval(_HAS_KEY, project_id, key.public_key, secret_hash):
        raise KeyTakenError("the public or the secret key belongs to another key pair or project already")
    return False


async def list_keys(connection: asyncpg.Connection, project_id: str | None = None) -> Sequence[Key]:
    """The keys of a project, or of all, revoked ones too, oldest first."""
    return [Key(*row) for row in await connection.fetch(_LIST_KEYS, project_id)]


async def revoke_key(connection: asyncpg.Connection, public_key: str) -> bool:
    """Revoke a key; False when there is none, or none any more. Gateways notice within a minute."""
    status: str = await connection.execute(_REVOKE, public_key)
    return status == "UPDATE 1"


def make_secret() -> str:
    """A new secret: sk-ls-, 32 random characters, a checksum."""
    body = _random(_SECRET_LENGTH)
    return f"{SECRET_PREFIX}{body}{_checksum(body)}"


def is_mistyped(secret_key: str) -> bool:
    """Whether a secret of our making fails its checksum. Secrets that others chose are never mistyped."""
    body = secret_key.removeprefix(SECRET_PREFIX)
    if body == secret_key or len(body) != _SECRET_LENGTH + _CHECKSUM_LENGTH:
        return False
    return _checksum(body[:_SECRET_LENGTH]) != body[_SECRET_LENGTH:]


def why_weak(secret_key: str) -> str | None:
    """Why a secret that somebody chose is too easy to guess for a hash without salt; None: it is not.

    What a generator makes passes: 32 hex digits (`openssl rand -hex 16`), a UUID, keys of ours and of Langfuse.
    """
    if len(secret_key) < LEAST_CHOSEN_LENGTH:
        return f"it has {len(secret_key)} characters; at least {LEAST_CHOSEN_LENGTH} are asked for"
    if (distinct := len(set(secret_key))) < LEAST_CHOSEN_DISTINCT:
        return f"it has {distinct} different characters; at least {LEAST_CHOSEN_DISTINCT} are asked for"
    return None


def hash_secret(secret_key: str) -> bytes:
    """What Postgres keeps of a secret."""
    return hashlib.sha256(secret_key.encode()).digest()


async def _store(connection: asyncpg.Connection, project_id: str, key: NewKey) -> None:
    hint = key.secret_key[-4:]
    try:
        await connection.execute(_CREATE_KEY, project_id, key.public_key, hash_secret(key.secret_key), hint)
    except asyncpg.ForeignKeyViolationError:
        raise NoSuchProjectError(f"there is no project {project_id!r}") from None
    except asyncpg.UniqueViolationError:
        raise KeyTakenError(KeyTakenError.__doc__) from None


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    while len(digits) < _CHECKSUM_LENGTH:
        number, digit = divmod(number, len(_ALPHABET))
        digits += _ALPHABET[digit]
    return digits


_CREATE_PROJECT = """
INSERT INTO projects (project_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true
"""
_CREATE_KEY = """
INSERT INTO api_keys (project_id, public_key, secret_hash, secret_hint) VALUES ($1, $2, $3, $4)
"""
_SEED_KEY = f"{_CREATE_KEY} ON CONFLICT DO NOTHING RETURNING true"
_HAS_KEY = "SELECT true FROM api_keys WHERE project_id = $1 AND public_key = $2 AND secret_hash = $3"
_LIST_KEYS = """
SELECT project_id, public_key, secret_hint, created_at, revoked_at FROM api_keys
WHERE $1::text IS NULL OR project_id = $1 ORDER BY created_at, public_key
"""
_REVOKE = "UPDATE api_keys SET revoked_at = now() WHERE public_key = $1 AND revoked_at IS NULL"
