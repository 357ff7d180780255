"""Versions of prompts from their read model; what was read once is remembered, for a version never changes."""

from collections import OrderedDict
from pathlib import Path

import asyncpg
from lodestream_proto.v1.prompts_pb2 import PromptVersion

from services.write.evaluator.compiling import Prompt, prompt_of
from shared.read_model.postgres import load_sql

_SQL = Path(__file__).parent / "sql"
_READ_PROMPT = load_sql(_SQL / "read_prompt.sql")
_MOST = 256
_DEFAULT_LABEL = "production"


class Prompts:
    """Prompts of all projects."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._known: OrderedDict[tuple[str, str, int], Prompt] = OrderedDict()

    async def find(self, project_id: str, name: str, version: int | None, label: str | None = None) -> Prompt | None:
        """The version, or the one that holds the label; None: the read model has none."""
        known = self._known.get((project_id, name, version or 0))
        if known is not None:
            return known
        body = await self._pool.fetchval(_READ_PROMPT, project_id, name, version, label or _DEFAULT_LABEL)
        if body is None:
            return None
        prompt = prompt_of(PromptVersion.FromString(body))
        self._known[project_id, name, prompt.version] = prompt
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        return prompt
