"""All measurements, each on a stack of its own, printed and written to docs/benchmarks.md: `make bench`."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import experiments, ingest, project, prompts, rebuild, scaling, scores, visible
from benchmarks.page import PAGE, Section, Table, write
from benchmarks.processes import busy_with_others, yardstick
from benchmarks.reads import __main__ as reads
from benchmarks.sdk import __main__ as sdk
from benchmarks.sdk import memory

_PEERS = Path(sys.prefix) / "peers" / "bin" / "python"  # made by `make bench`


@dataclass(frozen=True, slots=True)
class Question:
    """A section of the page."""

    heading: str
    answer: Callable[[argparse.Namespace], Sequence[Table]]


def _visible(options: argparse.Namespace) -> list[Table]:
    return [asyncio.run(visible.table(spans_per_second=1_000, spans_per_export=100, seconds=options.seconds / 2))]


def _scores(options: argparse.Namespace) -> list[Table]:
    return [asyncio.run(scores.table(scores=int(1_000 * options.seconds), per_request=(100, 1), clients=8))]


def _sdk(options: argparse.Namespace) -> list[Table]:
    tables = []
    for calls, rate in ((10_000, 0), (10_000, 2_000)):
        found = sdk.measure(calls=calls, rate=rate, rounds=3, langfuse_python=options.langfuse_python)
        tables.append(sdk.table(found, calls, rate))
    return [*tables, memory.table(int(10_000 * options.seconds))]


QUESTIONS = {
    "ingest": Question("From OTLP to Postgres", lambda o: [asyncio.run(ingest.table(o.seconds))]),
    "visible": Question("From acknowledged to visible", _visible),
    "scaling": Question("More processes", lambda o: [asyncio.run(scaling.table(o.seconds / 2))]),
    "rebuild": Question("Rebuilding the traces", lambda o: [asyncio.run(rebuild.table(o.seconds / 2, 2))]),
    "project": Question(
        "A span in the projection", lambda _: [project.table(project.records(spans=100, count=40), rounds=9)]
    ),
    "sdk": Question("The SDK in the traced program", _sdk),
    "prompts": Question("Prompts", lambda o: asyncio.run(prompts.tables(o.seconds / 6))),
    "scores": Question("Scores", _scores),
    "experiments": Question("Experiments", lambda o: asyncio.run(experiments.tables(int(66 * o.seconds)))),
    "reads": Question("Reads", lambda o: asyncio.run(reads.tables(o.traces))),
}


def main() -> None:
    """Answer all questions, or those that are named; half an hour with the default of 60 s a case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("questions", nargs="*", metavar="question", help=f"of {', '.join(QUESTIONS)} [all]")
    parser.add_argument(
        "--seconds", type=float, default=60, help="of a case of ingestion; the others follow [%(default)s]"
    )
    parser.add_argument("--traces", type=int, default=200_000, help="of five spans, to read from [%(default)s]")
    parser.add_argument(
        "--langfuse-python",
        default=str(_PEERS) if _PEERS.exists() else None,
        help="an interpreter that has langfuse installed, to compare with [%(default)s]",
    )
    parser.add_argument("--no-write", action="store_true", help=f"leave docs/{PAGE.name} as it is")
    options = parser.parse_args()
    if unknown := set(options.questions) - set(QUESTIONS):
        parser.error(f"no question called {', '.join(sorted(unknown))}: there are {', '.join(QUESTIONS)}")
    for name in options.questions or QUESTIONS:
        question = QUESTIONS[name]
        print(f"» {question.heading}", file=sys.stderr, flush=True)
        others, speed = busy_with_others(), yardstick()
        section = Section(name, question.heading, question.answer(options), others, speed)
        print(section, flush=True)
        if not options.no_write:
            write(section)


if __name__ == "__main__":
    main()
