"""`python -m services.projections.scores`: run until SIGTERM or Ctrl-C."""

from services.projections.scores.scores import create_app
from shared.projection.running import run

if __name__ == "__main__":
    run("scores", create_app)
