"""The command of the projection's process: `python -m services.projections.traces verify`."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from services.projections.traces.verifying.log_side import opened
from services.projections.traces.verifying.stored import stored
from services.projections.traces.verifying.verify import Verification
from shared.read_model.rebuilding.command import run_and_exit
from shared.read_model.rebuilding.events import tell
from shared.read_model.rebuilding.rebuild import RefusedError
from shared.runtime.settings import KafkaSettings, PostgresSettings

SAME, DIFFERENT, UNKNOWN = 0, 1, 2


def verify(arguments: Sequence[str]) -> NoReturn:
    """Exits with 0: the read model is what the log tells; 1: it is not; 2: that could not be found out."""
    description = "Compare the traces read model with the log, up to its positions, while everything runs on."
    parser = argparse.ArgumentParser(prog="python -m services.projections.traces verify", description=description)
    parser.parse_args(arguments)
    run_and_exit("verify-traces", _verify, failed=UNKNOWN)


async def _verify() -> int:
    async with stored(PostgresSettings().dsn) as tables, opened(KafkaSettings()) as log:
        beyond = sorted(number for number, offset in tables.positions.items() if offset > log.ends.get(number, 0))
        if beyond:
            raise RefusedError(f"the log ends before the positions of partitions {beyond}: it was replaced or cut")
        findings = await Verification(log, tables, tell).run()
    tell("verified", **findings.told(tables.positions))
    return SAME if findings.same else DIFFERENT
