"""Screening of requests to providers: allowed parameters and parts of messages, no addresses inside a network. Pure.

What a project puts into prompts, items and specs reaches an endpoint of the operator's, which may stand in a private
network and may fetch what a message names.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from services.write.evaluator.providers.provider import Message, ModelRequest, PermanentError
from shared.rules.model_parameters import check_parameters
from shared.runtime.refusal import InvalidError

Images = Literal["inline", "public"] | Sequence[str]
"""Which images an endpoint is sent: those in the message itself, also those of public hosts, or also of these hosts."""
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id", "refusal")
_DETAILS = ("auto", "low", "high", "original")
_INLINE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")
_PRINTABLE = re.compile(
    r"[!#-\[\]^-~]+"
)  # ASCII without spaces, quotes and backslashes, which parsers read differently
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_TOP = re.compile(r"[a-z]{2,63}|xn--[a-z0-9-]{1,59}")
_NOT_PUBLIC = (
    "localhost", "local", "localdomain", "internal", "intranet", "private", "corp", "home", "lan", "arpa", "test",
    "example", "invalid", "onion", "alt", "svc", "cluster",
    # Names that resolve to the address that is written in them, or to this machine.
    "nip.io", "sslip.io", "xip.io", "localtest.me", "lvh.me", "traefik.me",
)  # fmt: skip
_PORTS = (None, 80, 443)


def check_request(request: ModelRequest, *, kind: str, images: Images) -> None:
    """Check a request to an endpoint of a kind, which may be sent such images.

    Raises PermanentError naming what is not sent.
    """
    try:
        check_parameters(request.settings, kind, "settings")
    except InvalidError as error:
        raise PermanentError(str(error)) from None
    for n, message in enumerate(request.messages):
        _check_message(message, images, f"messages[{n}]")


def _check_message(message: Message, images: Images, path: str) -> None:
    _check_fields(message, _FIELDS, path)
    if message.get("role") not in _ROLES:
        raise PermanentError(f"{path}.role: is not one of {', '.join(_ROLES)}")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise PermanentError(f"{path}.content: is neither a text nor a list of parts")
    for n, part in enumerate(content):
        _check_part(part, images, f"{path}.content[{n}]")


def _check_part(part: Any, images: Images, path: str) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        _check_fields(part, ("type", "text"), path)
        if not isinstance(part.get("text"), str):
            raise PermanentError(f"{path}.text: is not a text")
    elif kind == "image_url":
        _check_fields(part, ("type", "image_url"), path)
        _check_image(part.get("image_url"), images, f"{path}.image_url")
    else:
        raise PermanentError(f"{path}.type: {kind!r:.100} is not sent; text and image_url are")


def _check_image(image: Any, images: Images, path: str) -> None:
    if not isinstance(image, dict) or not isinstance(url := image.get("url"), str):
        raise PermanentError(f"{path}.url: is not a text")
    _check_fields(image, ("url", "detail"), path)
    if image.get("detail", "auto") not in _DETAILS:
        raise PermanentError(f"{path}.detail: is not one of {', '.join(_DETAILS)}")
    if url[:5].lower() == "data:":
        if not _INLINE.fullmatch(url):
            raise PermanentError(f"{path}.url: is not a PNG, JPEG, GIF or WebP in base64")
    elif refusal := url_refusal(url, images):
        raise PermanentError(f"{path}.url: {refusal}")


def url_refusal(url: str, images: Images) -> str:
    """Why an endpoint may not fetch this URL; empty when it may.

    Names only: an address in any notation may be one of the endpoint's own network, and so may what a resolver makes
    of a name, which only the endpoint could check. That is for the operator to weigh who allows public hosts.
    """
    if images == "inline":
        return "images of other hosts are not sent to this provider; a data: URL is"
    if not _PRINTABLE.fullmatch(url):
        return "has characters that a URL does not have"
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").removesuffix(".")
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https"):
        return "is neither https nor http"
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        return "has a user in it"
    if images != "public":
        return "" if host in images and port in _PORTS else f"only images of {', '.join(images)} are sent"
    if port not in _PORTS or not is_public_name(host):
        return "is not of a public host's name"
    return ""


def is_public_name(host: str) -> bool:
    """Whether a host's name, in lower case, may be in the public DNS: no address, no name of a private network."""
    labels = host.split(".")
    if len(labels) < 2 or not all(map(_LABEL.fullmatch, labels)) or not _TOP.fullmatch(labels[-1]):
        return False
    return not any(host == name or host.endswith(f".{name}") for name in _NOT_PUBLIC)


def _check_fields(value: Mapping[str, Any], allowed: Sequence[str], path: str) -> None:
    if unknown := value.keys() - set(allowed):
        raise PermanentError(f"{path}.{min(unknown)!s:.100}: is not sent; {', '.join(allowed)} are")
