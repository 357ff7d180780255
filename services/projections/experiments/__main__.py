"""`python -m services.projections.experiments`: run until SIGTERM or Ctrl-C."""

from services.projections.experiments.experiments import create_app
from shared.projection.running import run

if __name__ == "__main__":
    run("experiments", create_app)
