"""The members of a JSON object or array as they are written: no number is rounded, no escape rewritten."""

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_decoder = json.JSONDecoder(parse_constant=_refuse)
_SPACE = re.compile(r"[ \t\n\r]*")


def members(text: str) -> list[tuple[str, str]]:
    """Names and JSON texts of an object's members, in their order; an array's have no names.

    Raises ValueError when the text is not one object or array.
    """
    at = _after_space(text, 0)
    opening = text[at : at + 1]
    if opening not in {"{", "["} or not opening:
        raise json.JSONDecodeError("no object or array", text, at)
    closing = "}" if opening == "{" else "]"
    found: list[tuple[str, str]] = []
    at = _after_space(text, at + 1)
    if text[at : at + 1] == closing:
        at += 1
    else:
        while True:
            name = ""
            if opening == "{":
                name, at = _name(text, at)
            _, end = _decoder.raw_decode(text, at)
            found.append((name, text[at:end]))
            at = _after_space(text, end)
            if text[at : at + 1] == closing:
                at += 1
                break
            at = _expect(text, at, ",")
    if _after_space(text, at) != len(text):
        raise json.JSONDecodeError("more than one value", text, at)
    return found


def _name(text: str, at: int) -> tuple[str, int]:
    at = _expect(text, at, '"')
    name, at = scanstring(text, at)
    return str(name), _expect(text, _after_space(text, at), ":")


def _expect(text: str, at: int, character: str) -> int:
    if text[at : at + 1] != character:
        raise json.JSONDecodeError(f"{character!r} expected", text, at)
    return _after_space(text, at + 1) if character != '"' else at + 1


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
