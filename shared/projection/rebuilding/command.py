"""The commands of a projection's process that rebuild its read model: `rebuild`, and `replay`, which that starts."""

import argparse
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn

import asyncpg
import structlog
import uvloop
from aiokafka.errors import KafkaError

from shared.projection.progress import HaltError, SkippedError
from shared.projection.projection import Prepared
from shared.projection.rebuilding import names, schema
from shared.projection.rebuilding.events import tell
from shared.projection.rebuilding.processes import ProcessDiedError, end_with_starter, report
from shared.projection.rebuilding.rebuild import Options, Rebuild, RefusedError, controlling, undo
from shared.projection.rebuilding.rebuildable import Rebuildable
from shared.projection.rebuilding.replay import replaying
from shared.runtime.garbage import collect_rarely
from shared.runtime.settings import KafkaSettings, PostgresSettings
from shared.runtime.telemetry import configure_logging

_EXPECTED = (RefusedError, ProcessDiedError, HaltError, SkippedError, OSError, TimeoutError, asyncpg.PostgresError,
             asyncpg.InterfaceError, KafkaError)  # fmt: skip


def rebuild(what: Rebuildable[Prepared], module: str, arguments: Sequence[str]) -> NoReturn:
    """Exits with 0: done; 1: failed, or the two differ and nothing was swapped. Run again, it goes on."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module} rebuild",
        description=f"Fold the log into {what.name}_rebuild, compare it with {what.name}, and swap the two.",
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="that fold; by default the cores")
    parser.add_argument("--restart", action="store_true", help="throw an unfinished rebuild away first")
    parser.add_argument("--accept-differences", action="store_true", help="swap although the two differ")
    parser.add_argument("--no-swap", action="store_true", help="end after the comparison; run again to swap")
    parser.add_argument("--undo", action="store_true", help="only make the one before the last swap live again")
    parser.add_argument("--drop-old", action="store_true", help="only drop what was live before the last swap")
    asked = parser.parse_args(arguments)
    run_and_exit(f"rebuild-{what.name}", lambda: _rebuild(what, module, asked))


async def _rebuild(what: Rebuildable[Prepared], module: str, asked: argparse.Namespace) -> int:
    dsn = PostgresSettings().dsn
    async with controlling(dsn, what.name) as control:
        if asked.drop_old:
            before = names.before(what.name)
            tell("dropped", schema=before.schema, was_there=await schema.drop(control, before))
            return 0
        if asked.undo:
            await undo(control, what)
            tell("undone", live=names.live(what.name).schema, kept=names.rebuilt(what.name).schema)
            return 0
        options = Options(
            processes=max(1, asked.processes),
            restart=asked.restart,
            accept_differences=asked.accept_differences,
            swap=not asked.no_swap,
        )
        run = Rebuild(
            what, options, control, kafka=KafkaSettings(), dsn=dsn, tell=tell,
            command=[sys.executable, "-m", module, "replay"],
        )  # fmt: skip
        done = await run.run()
        tell("done" if done else "different")
        return 0 if done else 1


def replay(what: Rebuildable[Prepared], module: str, arguments: Sequence[str]) -> NoReturn:
    """Fold partitions into the schema being rebuilt; ends with whoever started it."""
    parser = argparse.ArgumentParser(prog=f"python -m {module} replay", description=replay.__doc__)
    parser.add_argument("--to", required=True, metavar="PARTITION:OFFSET,…", help="up to where, exclusively")
    asked = parser.parse_args(arguments)
    targets = {
        int(partition): int(offset) for partition, _, offset in (to.partition(":") for to in asked.to.split(","))
    }
    end_with_starter()

    async def run() -> int:
        async with replaying(what, kafka=KafkaSettings(), dsn=PostgresSettings().dsn) as folding:
            await folding.to(targets, report)
        return 0

    run_and_exit(f"replay-{what.name}", run)


def run_and_exit(name: str, work: Callable[[], Coroutine[Any, Any, int]], *, failed: int = 1) -> NoReturn:
    """Run a command of a projection; what goes wrong is told in one event, and ends with `failed`."""
    configure_logging(name)
    collect_rarely()
    try:
        code = uvloop.run(work())
    except KeyboardInterrupt:
        code = failed
    except Exception as error:
        causes = _causes(error)
        if not all(isinstance(cause, _EXPECTED) for cause in causes):
            structlog.get_logger().error("stopped", exc_info=error)
        reason = "; ".join(dict.fromkeys(_sentence(cause) for cause in causes))
        if name.startswith("replay"):
            structlog.get_logger().error("stopped", error=reason)
        else:
            tell("failed", reason=reason)
        code = failed
    sys.exit(code)


def _causes(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [cause for each in error.exceptions for cause in _causes(each)]
    return [error]


def _sentence(error: BaseException) -> str:
    if isinstance(error, (RefusedError, ProcessDiedError)):
        return str(error)
    return f"{type(error).__name__}: {error}"
