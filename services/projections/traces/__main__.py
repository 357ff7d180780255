"""`python -m services.projections.traces`: run until SIGTERM or Ctrl-C."""

from services.projections.traces.app import create_app
from shared.read_model.projecting.running import run

if __name__ == "__main__":
    run("traces", create_app)
