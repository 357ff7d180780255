"""`python -m services.write.evaluator`: run until SIGTERM or Ctrl-C, then let items finish."""

import resource

from redis.exceptions import RedisError

from services.write.evaluator.app import create_app
from shared.projection.running import run
from shared.runtime.settings import EvaluatorSettings


def limit_memory(max_bytes: int) -> None:
    """Have allocations beyond so many bytes of data raise MemoryError, before the host ends this process or another.

    RLIMIT_DATA counts what can be written to, not address space that is only reserved. A lower limit stays.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([max_bytes, *limits]), hard))


if __name__ == "__main__":
    limit_memory(EvaluatorSettings().memory_bytes)
    run("evaluator", create_app, module="services.write.evaluator", does="Run experiments", retry_on=(RedisError,))
