"""What leaves for a provider: parameters and parts of messages of allowed kinds, and no address inside a network. Pure.

What a project puts into prompts, items and specs reaches an endpoint of the operator's, which may stand in a private
network and may fetch what a message names.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from services.write.evaluator.providers.provider import LastingError, Message, Question
from shared.read_model.model_parameters import check_parameters
from shared.runtime.refusal import InvalidError

Images = Literal["inline", "public"] | Sequence[str]
"""Which images an endpoint is sent: those that are in the message itself, also of public hosts, or also of these."""
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


def check_question(question: Question, *, kind: str, images: Images) -> None:
    """Check a call of an endpoint of a kind, which may be sent such images.

    Raises LastingError naming what is not sent.
    """
    try:
        check_parameters(question.settings, kind, "settings")
    except InvalidError as error:
        raise LastingError(str(error)) from None
    for n, message in enumerate(question.messages):
        _check_message(message, images, f"messages[{n}]")


def _check_message(message: Message, images: Images, path: str) -> None:
    _check_fields(message, _FIELDS, path)
    if message.get("role") not in _ROLES:
        raise LastingError(f"{path}.role: is none of {', '.join(_ROLES)}")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise LastingError(f"{path}.content: is no text and no list of parts")
    for n, part in enumerate(content):
        _check_part(part, images, f"{path}.content[{n}]")


def _check_part(part: Any, images: Images, path: str) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        _check_fields(part, ("type", "text"), path)
        if not isinstance(part.get("text"), str):
            raise LastingError(f"{path}.text: is no text")
    elif kind == "image_url":
        _check_fields(part, ("type", "image_url"), path)
        _check_image(part.get("image_url"), images, f"{path}.image_url")
    else:
        raise LastingError(f"{path}.type: {kind!r:.100} is not sent; text and image_url are")


def _check_image(image: Any, images: Images, path: str) -> None:
    if not isinstance(image, dict) or not isinstance(url := image.get("url"), str):
        raise LastingError(f"{path}.url: is no text")
    _check_fields(image, ("url", "detail"), path)
    if image.get("detail", "auto") not in _DETAILS:
        raise LastingError(f"{path}.detail: is none of {', '.join(_DETAILS)}")
    if url[:5].lower() == "data:":
        if not _INLINE.fullmatch(url):
            raise LastingError(f"{path}.url: is no PNG, JPEG, GIF or WebP in base64")
    elif why := why_not_fetched(url, images):
        raise LastingError(f"{path}.url: {why}")


def why_not_fetched(url: str, images: Images) -> str:
    """Why an endpoint is not told to fetch this URL; empty: it is.

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
        return "is no URL"
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
    """Whether a host's name, in lower case, is one that the public DNS may have: no address, no name of one network."""
    labels = host.split(".")
    if len(labels) < 2 or not all(map(_LABEL.fullmatch, labels)) or not _TOP.fullmatch(labels[-1]):
        return False
    return not any(host == name or host.endswith(f".{name}") for name in _NOT_PUBLIC)


def _check_fields(value: Mapping[str, Any], known: Sequence[str], path: str) -> None:
    if unknown := value.keys() - set(known):
        raise LastingError(f"{path}.{min(unknown)!s:.100}: is not sent; {', '.join(known)} are")
