"""Lack of memory, which libraries report as if the data were at fault."""

import mmap

from google.protobuf.message import EncodeError

_PROBE_BYTES = 64 * 1024 * 1024


def raise_if_out_of_memory(error: BaseException) -> None:
    """Raise MemoryError when an error comes from a lack of memory, so that good data is not taken for bad.

    protobuf's C implementation says EncodeError where an allocation failed while it serialised a message that it had
    parsed itself, and DecodeError where one failed while it parsed; zstd says "not enough memory". Where the error
    does not say so, a mapping of 64 MiB that is never touched shows it.

    Args:
        error: What was caught, and is about to be counted as a fault of the data.

    Raises:
        MemoryError: There is too little memory to judge the data; another attempt may succeed.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (MemoryError, EncodeError)) or "not enough memory" in str(cause).lower():
            raise MemoryError(str(error)) from error
        cause = cause.__cause__ or cause.__context__
    try:
        mmap.mmap(-1, _PROBE_BYTES).close()
    except OSError:
        raise MemoryError(str(error)) from error
