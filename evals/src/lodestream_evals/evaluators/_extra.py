"""The libraries that only evaluators need."""

import importlib
from typing import Any


def imported(module: str) -> Any:
    """The module. Raises ImportError that names what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is missing: pip install 'lodestream[experiments]'") from error
