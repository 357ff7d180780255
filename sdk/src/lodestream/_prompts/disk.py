"""The last known good of each prompt, on disk: for a start without the server."""

import contextlib
import hashlib
import os
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.message import Message
from lodestream_proto.v1.prompts_pb2 import PromptVersion

from lodestream._diagnostics import tell
from lodestream._prompts.messages import Selector


class Disk:
    """A file for each name with version or label, readable by people. Without a folder it remembers nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def keep(self, selector: Selector, version: PromptVersion) -> None:
        """Replace what is kept. A disk that does not take it is told, and no trouble otherwise."""
        self._write(selector, json_format.MessageToJson(version, ensure_ascii=False, indent=1))

    def forget(self, selector: Selector) -> None:
        """The server no longer has it: it must not come back at the next start."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._path(self._folder, selector).unlink(missing_ok=True)

    def find(self, selector: Selector) -> PromptVersion | None:
        """What was kept last; None when there is nothing, or nothing that can be read."""
        if self._folder is None:
            return None
        try:
            text = self._path(self._folder, selector).read_text(encoding="utf-8")
            found: Message = json_format.Parse(text, PromptVersion(), ignore_unknown_fields=True)
        except (OSError, ValueError, json_format.ParseError):
            return None
        return found if isinstance(found, PromptVersion) and found.name == selector[0] else None

    def _write(self, selector: Selector, text: str) -> None:
        if self._folder is None:
            return
        path = self._path(self._folder, selector)
        partial = path.with_suffix(f".{os.getpid()}.new")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            tell("prompts on disk", f"prompts are not kept on disk for a start without the server: {error}")

    @staticmethod
    def _path(folder: Path, selector: Selector) -> Path:
        name, which = selector
        kind = "version" if isinstance(which, int) else "label"
        digest = hashlib.sha256(f"{name}\n{kind}\n{which}".encode())
        return folder / f"{digest.hexdigest()[:32]}.json"
