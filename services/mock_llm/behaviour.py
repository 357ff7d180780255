"""How a request is to be treated: as the environment says, unless its query, its headers or its body say otherwise.

`?error_rate=0.5`, `X-Mock-Error-Rate: 0.5`, or `error_rate` beside `messages` (`extra_body` of OpenAI's client); the
query wins over the headers, the headers over the body.
"""

import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request

from services.mock_llm.errors import wrong
from shared.runtime.settings import MockBehaviour

FIELDS = tuple(MockBehaviour.model_fields)


def behaviour_of(request: Request, body: Mapping[str, Any], usual: MockBehaviour) -> MockBehaviour:
    """Raises ApiError naming the field that makes no sense."""
    told: dict[str, Any] = {}
    for field in FIELDS:
        header = f"x-mock-{field.replace('_', '-')}"
        given = request.query_params.get(field, request.headers.get(header, body.get(field)))
        told[field] = getattr(usual, field) if given is None else given
    try:
        return MockBehaviour.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        raise wrong(str(first["loc"][0]), first["msg"]) from None


def chance(*facts: Any) -> random.Random:
    """Randomness that follows from the facts."""
    told = json.dumps(facts, sort_keys=True, default=str)
    return random.Random(hashlib.sha256(told.encode()).digest())  # noqa: S311 - a repeatable one is wanted
