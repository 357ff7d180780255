"""Page tokens: where the last page ended, bound to the request it was made for."""

import base64
import binascii
import hashlib
from collections.abc import Sequence

import orjson

from shared.runtime.refusal import InvalidError

DEFAULT_SIZE, MAX_SIZE = 50, 1_000


def page_size(asked: int) -> int:
    """How many rows a page has."""
    if asked > MAX_SIZE:
        raise InvalidError("page_size", f"{asked} is more than {MAX_SIZE}")
    return asked or DEFAULT_SIZE


def to_token(request: bytes, last: Sequence[str | float | None]) -> str:
    """A token for the page after the row with these sort keys; `request` is what must not change."""
    return base64.urlsafe_b64encode(orjson.dumps([_fingerprint(request), *last])).decode().rstrip("=")


def from_token(request: bytes, token: str, *kinds: type) -> list[str | float | None] | None:
    """The sort keys of the last row seen; None for the first page.

    Raises RefusedError for what is no token of this request.
    """
    if not token:
        return None
    try:
        fingerprint, *last = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, TypeError, binascii.Error):
        raise InvalidError("page_token", "it is not a token of this service") from None
    if fingerprint != _fingerprint(request):
        raise InvalidError("page_token", "it belongs to a request with another filter or sort")
    if len(last) != len(kinds) or any(not isinstance(key, kind | None) for key, kind in zip(last, kinds, strict=True)):
        raise InvalidError("page_token", "it is not a token of this service")
    keys: list[str | float | None] = last
    return keys


def _fingerprint(request: bytes) -> str:
    return hashlib.blake2b(request, digest_size=8).hexdigest()
