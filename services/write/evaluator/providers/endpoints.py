"""The endpoints of models by name: those in the file that LODESTREAM_PROVIDERS names, and no others.

{"openai": {"kind": "openai", "base_url": "https://…/v1", "api_key_env": "OPENAI_API_KEY", "requests_per_second": 20}}
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from services.write.evaluator.providers.mock import MockProvider
from services.write.evaluator.providers.provider import Provider
from services.write.evaluator.providers.screening import Images
from shared.runtime.settings import secret


class ProvidersError(Exception):
    """The file of providers can't be used; the message names the file and the field."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["mock", "openai"]
    base_url: str = Field(default="", pattern=r"^(https?://.+)?$")
    api_key_env: str = ""
    """The environment variable that holds the API key; the key itself is in no file."""
    requests_per_second: float | None = Field(default=None, gt=0, le=100_000)
    """The rate limit, over all workers together."""
    access: Literal["all", "granted"] = "all"
    """Which projects may use it: all, or those that `lodestream admin providers grant` names."""
    models: tuple[str, ...] = ()
    """The models that may be used; empty when all may be."""
    images: Literal["inline", "public"] | tuple[str, ...] = "inline"
    """Images in messages: in the message itself, also of any public host, or also of the hosts that are listed."""


class _File(RootModel[dict[str, _Entry]]):
    model_config = ConfigDict(frozen=True)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider under the name that the operator gave it."""

    name: str
    provider: Provider = field(repr=False)
    requests_per_second: float | None = None
    kind: str = "openai"
    images: Images = "inline"
    granted_only: bool = False
    models: Sequence[str] = ()


Endpoints = Mapping[str, Endpoint]


def read_entries(path: Path | None) -> dict[str, _Entry]:
    """Read the file of providers; without a file, or with an empty one, there are none.

    Raises ProvidersError.
    """
    if path is None:
        return {}
    try:
        entries = _File.model_validate_json(path.read_bytes() or b"{}").root
    except OSError as error:
        raise ProvidersError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise ProvidersError(f"{path}: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}") from None
    for name, entry in entries.items():
        if entry.kind == "openai" and not entry.base_url:
            raise ProvidersError(f"{path}: {name}.base_url: is missing")
        if entry.api_key_env and secret(entry.api_key_env) is None:
            raise ProvidersError(f"{path}: {name}.api_key_env: {entry.api_key_env} is not set")
    return entries


@asynccontextmanager
async def open_endpoints(path: Path | None, *, seconds: float) -> AsyncIterator[Endpoints]:
    """Open the endpoints for the body of the `with` statement.

    Raises ProvidersError.
    """
    endpoints = {
        name: Endpoint(
            name,
            _provider(entry, seconds),
            entry.requests_per_second,
            entry.kind,
            entry.images,
            entry.access == "granted",
            entry.models,
        )
        for name, entry in read_entries(path).items()
    }
    try:
        yield MappingProxyType(endpoints)
    finally:
        for endpoint in endpoints.values():
            await endpoint.provider.aclose()


def _provider(entry: _Entry, seconds: float) -> Provider:
    if entry.kind == "mock":
        return MockProvider()
    from services.write.evaluator.providers.openai import OpenAIProvider  # costs a second, which not all need

    key = secret(entry.api_key_env) if entry.api_key_env else None
    return OpenAIProvider(base_url=entry.base_url, api_key=key, seconds=seconds)
