"""Folders that are whole or not there, and reachable for the user who needs them."""

import os
import pwd
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def made_whole(folder: Path) -> AsyncIterator[Path | None]:
    """A place to make `folder` in, renamed to it at the end; None when it exists. A half-made one is made anew."""
    if folder.exists():
        yield None
        return
    making = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    yield making
    making.rename(folder)


def kept_secret(file: Path, *, reader: tuple[int, int] | None = None) -> str:
    """The secret in a file that only we can read, or as root only this user and group: made when there is none."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f"{file.name}.new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_text(secrets.token_hex(24), encoding="utf-8")
        if reader:
            os.chown(new, *reader)
        new.rename(file)
    return file.read_text(encoding="utf-8")


def close_to_others(folder: Path) -> None:
    """Let other users do nothing in a folder of ours; as root they may pass it, since a server runs as another user."""
    folder.chmod(0o701 if unprivileged() else 0o700)


def unprivileged() -> tuple[int, int] | None:
    """The user and group for a program that refuses to run as root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def make_reachable(path: Path) -> None:
    """As root: let other users pass (not list) the folders on the way to `path`, which are made where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)
