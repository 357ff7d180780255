"""The first project and its key, from the environment: made at the start, or as soon as Postgres is there."""

import asyncio
from ipaddress import ip_address

import asyncpg
import structlog

from shared.auth.keys import KeyTakenError, NewKey, seed_key, why_weak
from shared.runtime.settings import InitSettings
from shared.storage.postgres import DATABASE_ERRORS, SEARCH_PATH

log = structlog.get_logger()


class WeakSecretError(ValueError):
    """The secret of the first key is too easy to guess for the address that the gateway listens on."""


def check_secret(init: InitSettings, host: str) -> None:
    """Refuse a weak secret, unless only this machine can send it or a setting allows it.

    Raises WeakSecretError.
    """
    if init.secret_key is None or init.weak_secret_allowed or _is_loopback(host):
        return
    if why := why_weak(init.secret_key.get_secret_value()):
        raise WeakSecretError(
            f"LODESTREAM_INIT_SECRET_KEY is too easy to guess for a gateway on {host}: {why}. Make one with "
            "`openssl rand -hex 32`; for development LODESTREAM_INIT_WEAK_SECRET_ALLOWED=true takes any"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def seed(owner_dsn: str, init: InitSettings) -> None:
    """Make the first project and its key, if they are set, as soon as Postgres answers; the gateway's role may not."""
    if not (init.project_id and init.public_key and init.secret_key):
        return
    key, reason = NewKey(init.public_key, init.secret_key.get_secret_value()), ""
    while True:
        try:
            made = await _seed(owner_dsn, init.project_id, init.project_name or init.project_id, key)
        except KeyTakenError as error:
            log.error("LODESTREAM_INIT_PUBLIC_KEY, LODESTREAM_INIT_SECRET_KEY: not seeded", reason=str(error))  # noqa: TRY400
            return
        except DATABASE_ERRORS as error:
            if reason != (reason := f"{type(error).__name__}: {error}"):
                log.warning("the first key waits for Postgres", error=reason)
            await asyncio.sleep(1)
        else:
            log.info("first key", project=init.project_id, made=made)
            return


async def _seed(owner_dsn: str, project_id: str, project_name: str, key: NewKey) -> bool:
    connection = await asyncpg.connect(
        owner_dsn, timeout=5, command_timeout=5, server_settings={"search_path": SEARCH_PATH}
    )
    try:
        return await seed_key(connection, project_id, project_name, key)
    finally:
        await connection.close(timeout=5)
