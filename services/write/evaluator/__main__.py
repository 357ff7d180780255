"""`python -m services.write.evaluator`: run until SIGTERM or Ctrl-C, then let items under way finish."""

from services.write.evaluator.app import create_app
from shared.read_model.projecting.running import run

if __name__ == "__main__":
    run("evaluator", create_app, module="services.write.evaluator", does="Run experiments")
