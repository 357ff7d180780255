"""The command line in this process: as fast as its calls are, so that a test can type many commands."""

import asyncio
import io
import json
import os
import sys
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from services.edge.cli import __main__ as command_line
from tests.support.stack import Stack


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Somebody who types commands, with this environment and no other."""

    environment: dict[str, str]

    async def run(self, *words: str, stdin: str = "") -> Ran:
        """Run one as a script does: there is no terminal."""
        return await asyncio.wait_for(asyncio.to_thread(self._run, words, stdin), 90)

    def _run(self, words: tuple[str, ...], stdin: str) -> Ran:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        typed = io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin.encode())), encoding="utf-8")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("LODESTREAM_") and name != "COLUMNS"
        }
        with (
            patch.multiple(sys, argv=["lodestream", *words], stdout=out, stderr=err, stdin=typed),
            patch.dict(os.environ, {**kept, **self.environment}, clear=True),
        ):
            try:
                command_line.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Ran(code, _written(out), _written(err))


def typing_to(stack: Stack, project: str = "acme") -> CommandLine:
    """With the key of a project on this stack."""
    keys = {"LODESTREAM_PUBLIC_KEY": "", "LODESTREAM_SECRET_KEY": stack.keys[project].secret_key}
    return CommandLine({"LODESTREAM_ENDPOINT": stack.address, **keys, "LODESTREAM_AUTHOR": "ada", "COLUMNS": "140"})


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined,no-any-return]
