"""`python -m services.projections.traces`: run until SIGTERM or Ctrl-C.

A command as its first argument: `rebuild` the read model beside the live one, `verify` it against the log, or
`redrive` dead letters.
"""

import sys

from services.projections.traces import redriving
from services.projections.traces.projection import create_app
from services.projections.traces.rebuilding import TRACES_READ_MODEL
from services.projections.traces.verifying.verify import verify
from shared.projection.rebuilding.command import rebuild, replay
from shared.projection.running import run

_MODULE = "services.projections.traces"

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["rebuild", *arguments]:
            rebuild(TRACES_READ_MODEL, _MODULE, arguments)
        case ["replay", *arguments]:
            replay(TRACES_READ_MODEL, _MODULE, arguments)
        case ["verify", *arguments]:
            verify(arguments)
        case ["redrive", *arguments]:
            redriving.main(arguments)
        case _:
            run("traces", create_app)
