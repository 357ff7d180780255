"""A real PromptService in this process, with as much of the server's rules as a client can tell."""

import queue
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc
from lodestream_proto.v1 import prompts_pb2 as pb

_SERVICE = "lodestream_proto.v1.PromptService"


class PromptServer:
    """Prompts of one project in memory; every change is told to those who watch."""

    def __init__(self, port: int = 0) -> None:
        self.asked: Counter[str] = Counter()
        """Calls by method."""
        self.failing: grpc.StatusCode | None = None
        """What every call but watching is answered with."""
        self.watching_fails: grpc.StatusCode | None = None
        self.hangs = threading.Event()
        """While set, look-ups are not answered."""
        self._versions: dict[str, list[pb.PromptVersion]] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._revisions: Counter[str] = Counter()
        self._commands: dict[str, Any] = {}
        self._moves: dict[tuple[str, str], list[int]] = {}
        self._watchers: list[queue.Queue[str | None]] = []
        self._lock = threading.RLock()
        self._server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        methods: dict[str, Any] = {
            "GetPrompt": _unary(self.get_prompt, pb.GetPromptRequest),
            "CreatePrompt": _unary(self.create_prompt, pb.CreatePromptRequest),
            "MoveLabels": _unary(self.move_labels, pb.MoveLabelsRequest),
            "RollBackLabel": _unary(self.roll_back_label, pb.RollBackLabelRequest),
            "WatchPrompts": grpc.unary_stream_rpc_method_handler(
                self.watch_prompts,
                request_deserializer=pb.WatchPromptsRequest.FromString,
                response_serializer=pb.WatchPromptsResponse.SerializeToString,
            ),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, methods),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; calls under way are cut."""
        self.hangs.clear()
        self.cut()
        self._server.stop(None).wait()

    def cut(self) -> None:
        """End the streams of those who watch."""
        with self._lock:
            for watcher in self._watchers:
                watcher.put(None)

    def add(self, name: str, text: str, *labels: str, **fields: Any) -> int:
        """A new version, as if somebody else had made it."""
        with self._lock:
            versions = self._versions.setdefault(name, [])
            versions.append(pb.PromptVersion(name=name, version=len(versions) + 1, text=text, **fields))
            self.move(name, len(versions), "latest", *labels)
            return len(versions)

    def move(self, name: str, version: int, *labels: str) -> None:
        """Let labels point to a version, as if somebody else had done it; 0 takes them off."""
        with self._lock:
            holders = self._labels.setdefault(name, {})
            for label in labels:
                self._moves.setdefault((name, label), []).append(holders.get(label, 0))
                holders.pop(label, None)
                if version:
                    holders[label] = version
            self._revisions[name] += 1
            for watcher in self._watchers:
                watcher.put(name)

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    def _find(self, selector: pb.PromptSelector) -> pb.PromptOutcome:
        with self._lock:
            outcome = pb.PromptOutcome(prompt=selector, revision=self._revisions[selector.name])
            labels = self._labels.get(selector.name, {})
            label = selector.label or "production"
            number = selector.version if selector.WhichOneof("which") == "version" else labels.get(label, 0)
            versions = self._versions.get(selector.name, [])
            if 0 < number <= len(versions):
                outcome.found.CopyFrom(versions[number - 1])
                outcome.found.labels.extend(sorted(its for its, holder in labels.items() if holder == number))
                outcome.found.revision = outcome.revision
            return outcome

    def _begin(self, method: str, context: Any) -> None:
        self.asked[method] += 1
        while self.hangs.is_set() and context.is_active():
            threading.Event().wait(0.01)
        if self.failing is not None:
            context.abort(self.failing, "as scripted")

    def get_prompt(self, request: pb.GetPromptRequest, context: Any) -> pb.GetPromptResponse:
        self._begin("GetPrompt", context)
        outcome = self._find(request.prompt)
        if not outcome.HasField("found"):
            context.abort(grpc.StatusCode.NOT_FOUND, "this project has no such prompt")
        return pb.GetPromptResponse(prompt=outcome.found)

    def create_prompt(self, request: pb.CreatePromptRequest, context: Any) -> pb.CreatePromptResponse:
        self._begin("CreatePrompt", context)
        with self._lock:
            if request.command_id not in self._commands:
                told = request.prompt
                version = self.add(told.prompt_name, told.text, *told.labels, config_json=told.config_json)
                if told.WhichOneof("content") == "chat":
                    self._versions[told.prompt_name][version - 1].chat.CopyFrom(told.chat)
                self._commands[request.command_id] = version
            return pb.CreatePromptResponse(version=self._commands[request.command_id])

    def move_labels(self, request: pb.MoveLabelsRequest, context: Any) -> pb.MoveLabelsResponse:
        self._begin("MoveLabels", context)
        move = request.move
        with self._lock:
            if move.HasField("expected_revision") and move.expected_revision != self._revisions[move.prompt_name]:
                context.abort(grpc.StatusCode.ABORTED, "the prompt is at another revision")
            self.move(move.prompt_name, move.version, *move.labels)
            return pb.MoveLabelsResponse(revision=self._revisions[move.prompt_name])

    def roll_back_label(self, request: pb.RollBackLabelRequest, context: Any) -> pb.RollBackLabelResponse:
        self._begin("RollBackLabel", context)
        back = request.roll_back
        with self._lock:
            before = self._moves.get((back.prompt_name, back.label), [0])[-1]
            if not before:
                context.abort(grpc.StatusCode.NOT_FOUND, "nobody held the label before")
            self.move(back.prompt_name, before, back.label)
            return pb.RollBackLabelResponse(version=before, revision=self._revisions[back.prompt_name])

    def watch_prompts(self, request: pb.WatchPromptsRequest, context: Any) -> Any:
        self.asked["WatchPrompts"] += 1
        if self.watching_fails is not None:
            context.abort(self.watching_fails, "as scripted")
        mine: queue.Queue[str | None] = queue.Queue()
        context.add_callback(lambda: mine.put(None))
        with self._lock:
            self._watchers.append(mine)
            known = [(it.prompt, self._find(it.prompt), it.known_revision) for it in request.prompts]
        try:
            yield pb.WatchPromptsResponse(changes=[now for _, now, has in known if now.revision != has])
            while (name := mine.get()) is not None:
                yield pb.WatchPromptsResponse(changes=[self._find(it) for it, _, _ in known if it.name == name])
        finally:
            with self._lock:
                self._watchers.remove(mine)


def _unary(answer: Any, request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=request.FromString, response_serializer=lambda message: message.SerializeToString()
    )
