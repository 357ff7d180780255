"""Programs that trace, in processes of their own: to be forked, ended and killed."""

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from sdk.tests.polling import until
from sdk.tests.telling import segments

PREAMBLE = """
import os, signal, sys, time, threading
from lodestream import get_client, observe

@observe
def work(name):
    get_client().update_current_span(name=name)

def durable():
    while not get_client().receipt.durable:
        time.sleep(0.001)

def adopted(spans):
    get_client().flush()
    end = time.monotonic() + 30
    while get_client().receipt.adopted < spans and time.monotonic() < end:
        time.sleep(0.01)
"""
"""`durable` returns when what was told survives the process, `adopted` when so much of others was delivered."""


_started: "list[subprocess.Popen[str]]" = []


def end_all() -> None:
    """Kill the programs that a test has left running; they would outlive it and disturb others."""
    while _started:
        with _started.pop() as process:
            process.kill()


@dataclass(frozen=True)
class Programs:
    """They spool in one place and deliver to one address."""

    spool: Path
    address: str
    python: Path = Path(sys.executable)

    def start(self, program: str, *, first: str = "", **environment: str) -> "subprocess.Popen[str]":
        """A program that begins with the PREAMBLE, or with what comes `first`."""
        process = subprocess.Popen(
            [str(self.python), "-W", "error", "-c", first + PREAMBLE + textwrap.dedent(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "LODESTREAM_ENDPOINT": self.address,
                "LODESTREAM_SECRET_KEY": "sk",
                "LODESTREAM_SPOOL_DIR": str(self.spool),
                **environment,
            },
        )
        _started.append(process)
        return process

    def run(self, program: str, *, first: str = "", **environment: str) -> str:
        """What a program that ends well, and complains of nothing, has printed."""
        with self.start(program, first=first, **environment) as child:
            out, err = child.communicate(timeout=90)
        assert child.returncode == 0, err
        assert not err
        return out

    def left(self) -> list[Path]:
        """Files that hold what was not delivered."""
        return segments(self.spool)

    def deliver_left(self) -> None:
        """Have the next process deliver whatever others left."""
        with self.start("work('next')\nget_client().flush()\nsys.stdin.readline()") as process:
            until(lambda: self.left() == [], deadline=30)
            _, err = process.communicate("\n", timeout=30)
        assert (process.returncode, err) == (0, "")
