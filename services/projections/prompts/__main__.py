"""`python -m services.projections.prompts`: run until SIGTERM or Ctrl-C."""

from redis.exceptions import RedisError

from services.projections.prompts.prompts import create_app
from shared.projection.running import run

if __name__ == "__main__":
    run("prompts", create_app, retry_on=(RedisError,))
