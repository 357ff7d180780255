"""A process that has imported the libraries of our services and forks for each start: importing them takes a second.

`python -m tests.support.fork_server` speaks JSON lines over the socket that is its standard input. It holds third-party
libraries and generated messages only: our own modules are imported in the child, as after `python -m`, so nothing that
they keep (metrics, armed failpoints, settings) is shared between processes.

    {"start": 1, "argv": ["services.read.query"], "environment": {}, "folder": "/tmp/x", "log": "/tmp/x/query.log"}
    {"started": 1, "pid": 4711}           the child leads a session of its own, and waits
    {"go": 4711}                          it becomes the program
    {"ended": 4711, "code": -9}           exit code, or minus the signal
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_LIBRARIES = (
    "aiokafka",
    "asyncpg",
    "faststream.asgi",
    "faststream.kafka",
    "grpc.aio",
    "grpc_health.v1.health",
    "grpc_status.rpc_status",
    "numpy",
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc",
    "orjson",
    "prometheus_client",
    "psutil",
    "pydantic_settings",
    "redis.asyncio",
    "structlog",
    "uvicorn",
    "uvloop",
    "zstandard",
)


@dataclass(frozen=True, slots=True)
class Program:
    """What a child becomes: a module and its arguments, once a byte comes through the gate."""

    argv: Sequence[str]
    gate: int


class ForkServer:
    """Serves until the socket is closed by the other side. Children then end at their gates, or live on."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._gates: dict[int, int] = {}
        self._rest = b""

    def run(self) -> Program | None:
        """Returns the program in a child, None in the server itself when it is to end."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        wake, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken)
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(wake, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj == wake:
                        os.read(wake, 4096)
                        self._report_ended()
                        continue
                    requests = self._requests()
                    if requests is None:
                        return None
                    for request in requests:
                        if program := self._answer(request):
                            os.close(wake)
                            os.close(woken)
                            return program

    def _requests(self) -> list[dict[str, Any]] | None:
        received = self._control.recv(1 << 20)
        if not received:
            return None
        *lines, self._rest = (self._rest + received).split(b"\n")
        return [json.loads(line) for line in lines]

    def _answer(self, request: dict[str, Any]) -> Program | None:
        if "go" in request:
            if (gate := self._gates.pop(request["go"], None)) is not None:
                with contextlib.suppress(BrokenPipeError):  # it was killed at the gate
                    os.write(gate, b"\n")
                os.close(gate)
            return None
        gate, opening = os.pipe()
        ready, leading = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become_child(request)
            os.close(opening)
            os.close(ready)
            os.write(leading, b"\n")
            os.close(leading)
            return Program(request["argv"], gate)
        os.close(gate)
        os.close(leading)
        os.read(ready, 1)  # it leads its group: whoever learns of it can kill that
        os.close(ready)
        self._gates[pid] = opening
        self._send({"started": request["start"], "pid": pid})
        return None

    def _become_child(self, request: dict[str, Any]) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        self._control.detach()
        for gate in self._gates.values():
            os.close(gate)
        nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.close(nothing)
        os.close(log)
        os.chdir(request["folder"])
        sys.path[0] = request["folder"]
        os.environ.clear()
        os.environ.update(request["environment"])
        time.tzset()

    def _report_ended(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (gate := self._gates.pop(pid, None)) is not None:
                os.close(gate)
            self._send({"ended": pid, "code": os.waitstatus_to_exitcode(status)})

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more; the next read says so
            self._control.sendall(json.dumps(message).encode() + b"\n")


def _load() -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)
    messages = importlib.import_module("lodestream_proto.v1")
    for module in pkgutil.iter_modules(messages.__path__, f"{messages.__name__}."):
        importlib.import_module(module.name)
    ours = [name for name in sys.modules if name.partition(".")[0] in {"services", "shared", "lodestream"}]
    assert not ours, f"belongs into the children only: {ours}"
    gc.freeze()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the starter's
    _load()
    if program := ForkServer(socket.socket(fileno=0)).run():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if os.read(program.gate, 1):
            os.close(program.gate)
            module, *arguments = program.argv
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
