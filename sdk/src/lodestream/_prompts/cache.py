"""The prompts that a program has looked up, in memory, and the last known good of each on disk."""

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.message import Message
from lodestream_evals.prompt import Prompt
from lodestream_proto.v1 import prompts_pb2 as pb
from lodestream_proto.v1.prompts_pb2 import PromptVersion

from lodestream._delivery.channel import RpcChannel, RpcError, call_with_retries
from lodestream._diagnostics import warn_once
from lodestream._lifecycle import start_thread
from lodestream._prompts.errors import PromptNotFoundError, PromptTypeError, PromptUnavailableError
from lodestream._prompts.messages import Selector, prompt_from, selector_from, selector_of
from lodestream._prompts.prompt import PromptType
from lodestream._prompts.watch import PromptWatch
from lodestream._settings import Settings


class PromptFiles:
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
            version: Message = json_format.Parse(text, PromptVersion(), ignore_unknown_fields=True)
        except (OSError, ValueError, json_format.ParseError):
            return None
        return version if isinstance(version, PromptVersion) and version.name == selector[0] else None

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
            warn_once("prompts on disk", f"prompts are not kept on disk for a start without the server: {error}")

    @staticmethod
    def _path(folder: Path, selector: Selector) -> Path:
        name, which = selector
        kind = "version" if isinstance(which, int) else "label"
        digest = hashlib.sha256(f"{name}\n{kind}\n{which}".encode())
        return folder / f"{digest.hexdigest()[:32]}.json"


_AWAY_SECONDS = 5.0
"""What could not be had is not asked for again before, so that a server that is away costs one wait."""
_MOST_ENTRIES = 10_000


@dataclass(slots=True)
class _Entry:
    prompt: Prompt | None
    """None: the server has none."""
    revision: int
    until: float
    """When it is fetched again, by time.monotonic."""


class PromptCache:
    """Looks prompts up. One for a client."""

    def __init__(self, settings: Settings, folder: Path | None) -> None:
        """`folder` is for the last known good."""
        self._settings, self._files = settings, PromptFiles(folder)
        self._entries: dict[Selector, _Entry] = {}
        self._unavailable: dict[Selector, tuple[float, RpcError]] = {}
        self._begin()

    def _begin(self) -> None:
        self.channel = RpcChannel(self._settings)
        self._lock = threading.RLock()
        self._fetching: dict[Selector, Future[_Entry]] = {}
        self._refreshing: set[Selector] = set()
        self._watch = PromptWatch(RpcChannel(self._settings, patient=False), self._known, self._apply_changes)

    # --- Looking up ---------------------------------------------------------------------------------------------------

    def get(
        self,
        name: str,
        which: int | str,
        *,
        as_type: PromptType | None,
        ttl: float,
        retries: int,
        timeout: float,
    ) -> Prompt:
        """The prompt; see Lodestream.get_prompt.

        Raises PromptNotFoundError, PromptTypeError, PromptUnavailableError.
        """
        selector = (name, which)
        entry = self._entries.get(selector)
        if entry is None or ttl <= 0:
            entry = self._look_up(selector, ttl=ttl, retries=retries, timeout=timeout)
        elif not self._watch.covers(selector, now := time.monotonic()):
            self._watch.begin()
            if now >= entry.until:
                self._refresh(selector, ttl=ttl, timeout=timeout)
        prompt = entry.prompt
        if prompt is None:
            raise PromptNotFoundError(f"this project has no prompt {_in_words(selector)}")
        if as_type is not None and prompt.type != as_type:
            raise PromptTypeError(f"prompt {name!r} version {prompt.version} is a {prompt.type} prompt, not {as_type}")
        return prompt

    def forget(self, name: str | None = None) -> None:
        """Ask anew for this prompt, or for all, at the next look-up."""
        self._unavailable.clear()
        for selector in list(self._entries):
            if name is None or selector[0] == name:
                self._entries.pop(selector, None)

    def _look_up(self, selector: Selector, *, ttl: float, retries: int, timeout: float) -> _Entry:
        """From the server, or the disk. Raises PromptUnavailableError."""
        try:
            self._refuse_while_unavailable(selector)
            entry = self._fetch_once(selector, ttl=ttl, retries=retries, timeout=timeout)
        except RpcError as error:
            kept = self._files.find(selector)
            if kept is None:
                raise PromptUnavailableError(f"prompt {_in_words(selector)}: {error}") from None
            kept_on_disk = f"version {kept.version}, kept on disk, is used"
            warn_once(f"prompt {selector[0]}", f"prompt {_in_words(selector)}: {error}; {kept_on_disk}")
            entry = _Entry(prompt_from(kept), 0, time.monotonic() + _AWAY_SECONDS)
            self._keep(selector, entry)
        return entry

    def _refuse_while_unavailable(self, selector: Selector) -> None:
        """The answer of a moment ago, so that a server that is away holds nobody up again and again."""
        until, error = self._unavailable.get(selector, (0.0, None))
        if error is not None and time.monotonic() < until:
            raise error

    def _fetch_once(self, selector: Selector, *, ttl: float, retries: int, timeout: float) -> _Entry:
        """One request at a time for a prompt; others wait for its answer. Raises LineError."""
        with self._lock:
            pending = self._fetching.get(selector)
            mine = Future[_Entry]() if pending is None else pending
            if pending is None:
                self._fetching[selector] = mine
        if pending is not None:
            try:
                return pending.result(timeout * (retries + 1) + 1)
            except TimeoutError:
                raise RpcError("DEADLINE_EXCEEDED", "another thread asked, and was not answered either") from None
        try:
            entry = self._fetch(selector, ttl=ttl, retries=retries, timeout=timeout)
        except BaseException as error:
            given_up = RpcError("CANCELLED", f"another thread asked, and gave up: {type(error).__name__}")
            mine.set_exception(error if isinstance(error, RpcError) else given_up)
            raise
        else:
            mine.set_result(entry)
            return entry
        finally:
            self._fetching.pop(selector, None)

    def _fetch(self, selector: Selector, *, ttl: float, retries: int, timeout: float) -> _Entry:
        request = pb.GetPromptRequest(prompt=selector_of(selector))
        try:
            answer = call_with_retries(
                self.channel, "PromptService/GetPrompt", request, retries=retries, timeout=timeout
            )
        except RpcError as error:
            if error.status != "NOT_FOUND":
                self._unavailable[selector] = (time.monotonic() + _AWAY_SECONDS, error)
                raise
            return self._take(selector, None, 0, ttl=_AWAY_SECONDS)
        version = pb.GetPromptResponse.FromString(answer).prompt
        return self._take(selector, version, version.revision, ttl=ttl)

    def _refresh(self, selector: Selector, *, ttl: float, timeout: float) -> None:
        """Ask behind the program's back; what is known serves meanwhile."""
        with self._lock:
            if selector in self._refreshing:
                return
            self._refreshing.add(selector)

        def refresh() -> None:
            try:
                self._fetch(selector, ttl=ttl, retries=0, timeout=timeout)
            except RpcError:
                if (entry := self._entries.get(selector)) is not None:
                    entry.until = time.monotonic() + _AWAY_SECONDS
            finally:
                self._refreshing.discard(selector)

        try:
            start_thread(threading.Thread(target=refresh, name="lodestream-prompt", daemon=True))
        except RuntimeError:  # too many threads, or the interpreter is about to end
            self._refreshing.discard(selector)

    # --- What is known ------------------------------------------------------------------------------------------------

    def _known(self) -> Mapping[Selector, int]:
        return {selector: entry.revision for selector, entry in list(self._entries.items())}

    def _apply_changes(self, changes: Sequence[pb.PromptOutcome]) -> None:
        for change in changes:
            version = change.found if change.HasField("found") else None
            self._take(selector_from(change.prompt), version, change.revision, ttl=_AWAY_SECONDS)

    def _take(self, selector: Selector, version: pb.PromptVersion | None, revision: int, *, ttl: float) -> _Entry:
        entry = _Entry(prompt_from(version) if version is not None else None, revision, time.monotonic() + ttl)
        self._unavailable.pop(selector, None)
        with self._lock:
            present = self._entries.get(selector)
            if present is not None and revision and present.revision > revision:
                return present  # an answer that was overtaken by the watch
            self._keep(selector, entry)
        if version is not None:
            self._files.keep(selector, version)
        else:
            self._files.forget(selector)
        self._watch.follow()
        return entry

    def _keep(self, selector: Selector, entry: _Entry) -> None:
        self._entries[selector] = entry
        while len(self._entries) > _MOST_ENTRIES:
            self._entries.pop(next(iter(self._entries)), None)

    # --- The process --------------------------------------------------------------------------------------------------

    def after_fork(self) -> None:
        """In the child: what is known stays, what was under way is the parent's."""
        self._begin()

    def close(self) -> None:
        """End the watch; later look-ups are answered from what is known, or ask."""
        self._watch.close()
        self.channel.close()


def _in_words(selector: Selector) -> str:
    name, which = selector
    return f"{name!r} version {which}" if isinstance(which, int) else f"{name!r} label {which!r}"
