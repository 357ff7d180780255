"""Where on disk a client keeps what must survive the process: a folder for each server and key."""

import hashlib
import os
from pathlib import Path

from lodestream._diagnostics import tell
from lodestream._settings import Settings, default_spool_dir


def spool_root(settings: Settings) -> Path | None:
    """What is left in it is delivered to where it was meant to go. None, and that is told, where there is no place."""
    try:
        root = settings.spool_dir or default_spool_dir(os.environ)
    except RuntimeError as error:
        tell("the spool", f"spans are kept in memory only, set LODESTREAM_SPOOL_DIR: {error}")
        return None
    recipient = f"{settings.endpoint.target}\n{settings.public_key or settings.secret_key}"
    return root.absolute() / hashlib.sha256(recipient.encode()).hexdigest()[:16]


def prompts_dir(settings: Settings) -> Path | None:
    """For prompts that were seen last; beside the spools, none of which has this name."""
    spool = spool_root(settings)
    return spool.parent / "prompts" / spool.name if spool else None
