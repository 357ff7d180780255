"""Kafka's jars: exactly those of requirements/kafka.lock, fetched once, each checked by its SHA-256.

`python -m services.all_in_one.jars` resolves Kafka's coordinates anew and prints the lock.
"""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jgo
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext

from services.all_in_one.concurrency import run_all

LOCK = Path(__file__).parents[2] / "requirements" / "kafka.lock"
# A newer Kafka on the day of its release may be half published; this is moved deliberately.
_KAFKA = "org.apache.kafka:kafka_2.13:4.3.1+org.slf4j:slf4j-simple:1.7.36"
_CONCURRENCY = 6  # downloads


class JarError(Exception):
    """A jar can't be fetched, or is not what requirements/kafka.lock names. The message says which."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock: Maven coordinates and the checksum of the file."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The name in our cache; it holds the checksum's head, so that another content is another file."""
        return f"{self.artifact}-{self.version}.{self.sha256[:12]}.jar"


def read_lock(lock: Path = LOCK) -> list[Jar]:
    """Return the jars in the order of the class path."""
    jars = []
    for line in lock.read_text(encoding="utf-8").splitlines():
        coordinates, sha256 = line.split(" --hash=sha256:")
        group, artifact, version = coordinates.split(":")
        jars.append(Jar(group, artifact, version, sha256))
    return jars


async def fetch_jars(folder: Path, progress: Callable[[int, int], None], jars: list[Jar] | None = None) -> list[Path]:
    """Return every jar of the lock in `folder`, checked; fetches those that are missing or damaged.

    `progress` is called with how many are fetched, and of how many. Two processes may do this at the same time.
    Raises JarError.
    """
    jars = read_lock() if jars is None else jars
    folder.mkdir(parents=True, exist_ok=True)
    missing = [jar for jar in jars if not _is_whole(folder / jar.file_name, jar)]
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as arriving:
        context, turn, done = _maven(Path(arriving)), asyncio.Semaphore(_CONCURRENCY), 0

        async def fetch(jar: Jar) -> None:
            nonlocal done
            async with turn:
                await asyncio.to_thread(_fetch, jar, context, folder)
            done += 1
            progress(done, len(missing))

        await run_all(fetch(jar) for jar in missing)
    return [folder / jar.file_name for jar in jars]


def _maven(cache: Path) -> MavenContext:
    """Return Maven as this machine's jgo is configured, with an empty cache: a damaged jar can't be taken for ours."""
    repositories = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return MavenContext(repo_cache=cache, remote_repos=repositories, timeout=60)


def _fetch(jar: Jar, context: MavenContext, folder: Path) -> None:
    coordinates = f"{jar.group}:{jar.artifact}:{jar.version}"
    try:
        arrived = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    except (RuntimeError, OSError) as error:
        raise JarError(f"{coordinates} can't be fetched: {error}") from error
    if not _is_whole(arrived, jar):
        raise JarError(f"{coordinates}: SHA-256 is {_sha256(arrived)}, {LOCK.name} says {jar.sha256}")
    arrived.replace(folder / jar.file_name)


def _is_whole(path: Path, jar: Jar) -> bool:
    return path.exists() and _sha256(path) == jar.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resolve_anew() -> Iterator[Jar]:
    """Resolve Kafka and all it needs, as Maven does today."""
    with tempfile.TemporaryDirectory() as cache:
        context = _maven(Path(cache))
        for artifact in sorted(jgo.resolve(_KAFKA), key=str):
            resolved = context.project(artifact.groupId, artifact.artifactId).at_version(artifact.version).artifact()
            yield Jar(artifact.groupId, artifact.artifactId, artifact.version, _sha256(resolved.resolve()))


def default_folder() -> Path:
    """Return a folder in the user's cache, so that all checkouts and test runs share one download."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lodestream" / "jars"


def main() -> None:
    """Print the lock of what resolves today."""
    for jar in resolve_anew():
        print(f"{jar.group}:{jar.artifact}:{jar.version} --hash=sha256:{jar.sha256}")  # noqa: T201


if __name__ == "__main__":
    main()
