"""Each SDK in a process of its own, one after the other, traces the same calls; medians of all rounds are told.

.venv/bin/python -m benchmarks.sdk --langfuse-python /path/to/a/python/that/has/langfuse
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.page import Table

Rounds = dict[str, list[dict[str, Any]]]
PROGRAM = Path(__file__).with_name("program.py")
COLUMNS = {
    "caller_us": "caller µs/call",
    "process_us": "process CPU µs/call",
    "delivered": "delivered",
    "import_ms": "import ms",
    "dead_caller_us": "caller µs, server dead",
}


def main() -> None:
    """Measure as the command line says."""
    arguments = _arguments()
    found = measure(
        calls=arguments.calls, rate=arguments.rate, rounds=arguments.rounds, langfuse_python=arguments.langfuse_python
    )
    print(json.dumps(found) if arguments.json else table(found, arguments.calls, arguments.rate))


def measure(*, calls: int, rate: int, rounds: int, langfuse_python: str | None = None) -> Rounds:
    """What each SDK cost in each round."""
    pythons = {"none": sys.executable, "lodestream": sys.executable, "opentelemetry": sys.executable}
    if langfuse_python:
        pythons["langfuse"] = langfuse_python
    found: Rounds = {name: [] for name in pythons}
    with _collector() as ports:
        for number in range(rounds):
            for name, python in pythons.items():
                print(f"» round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
                alive = _run(python, name, ports, calls, rate)
                dead = _run(python, name, {"grpc": 1, "http": 1}, calls, rate)
                alive["dead_caller_us"] = dead["caller_us"]
                found[name].append({**alive, "import_ms": _import_ms(python, name)})
    return found


def table(rounds: Rounds, calls: int, rate: int) -> Table:
    """The medians. What the calls cost without tracing is taken off."""
    medians = {
        name: {column: statistics.median(each[column] for each in found) for column in COLUMNS}
        for name, found in rounds.items()
    }
    base, rows = medians["none"], []
    ours = medians["lodestream"]["process_us"] - base["process_us"]
    for name, found in medians.items():
        net = {
            key: value - base[key] if key.endswith("_us") and name != "none" else value for key, value in found.items()
        }
        rows.append(
            [
                name,
                *(f"{net[column]:,.1f}" for column in COLUMNS),
                "" if name == "none" else f"{net['process_us'] / ours:.1f}",
            ]
        )
    pace = f"{rate:,} calls a second" if rate else "as many as can be"
    return Table(
        f"{calls:,} observed calls of 1.5 KB in, 0.8 KB out, {pace}, medians of {len(rounds['none'])} rounds in turns",
        ["SDK", *COLUMNS.values(), "CPU, of lodestream's"],
        rows,
        "What the calls cost without tracing (none) is taken off the others. `nan`: this SDK does not tell.",
    )


def _run(python: str, name: str, ports: Mapping[str, int], calls: int, rate: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as spool:
        environment = {
            **os.environ,
            "LODESTREAM_SPOOL_DIR": spool,
            "LODESTREAM_ENDPOINT": f"127.0.0.1:{ports['grpc']}",
            "LODESTREAM_SECRET_KEY": "sk",
            "LANGFUSE_BASE_URL": f"http://127.0.0.1:{ports['http']}",
            "LANGFUSE_HOST": f"http://127.0.0.1:{ports['http']}",
            "LANGFUSE_PUBLIC_KEY": "pk",
            "LANGFUSE_SECRET_KEY": "sk",
        }
        command = [python, str(PROGRAM), name, str(calls), str(rate)]
        ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def _import_ms(python: str, name: str) -> float:
    """Of the packages, over an interpreter's own start."""

    def cpu_seconds(statement: str) -> float:
        before = os.times()
        subprocess.run([python, "-c", statement], check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    statement = {
        "none": "pass",
        "lodestream": "import lodestream",
        "opentelemetry": "import opentelemetry.sdk.trace.export, opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
        "langfuse": "import langfuse",
    }[name]
    return 1e3 * (min(cpu_seconds(statement) for _ in range(3)) - min(cpu_seconds("pass") for _ in range(3)))


@contextmanager
def _collector() -> Iterator[dict[str, int]]:
    with subprocess.Popen(
        [sys.executable, str(PROGRAM.with_name("collector.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        yield json.loads(child.stdout.readline())
        child.kill()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sdk", description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000, help="[%(default)s]")
    parser.add_argument("--rate", type=int, default=0, help="calls a second, 0: as many as can be [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--langfuse-python", help="an interpreter that has langfuse installed")
    parser.add_argument("--json", action="store_true", help="all figures of all rounds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
