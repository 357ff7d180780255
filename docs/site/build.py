"""Build the documentation site from the tree: `make docs`.

Pages are staged in `.docs/pages`: those of `docs/`, those that lie elsewhere because they are read there too (READMEs,
CONTRIBUTING, changelogs), and those that are written from the code. Zensical makes `.docs/site` of them, and refuses
links to pages or headings that do not exist. A link to another file of the repository becomes its path.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
BUILD = ROOT / ".docs"
CONFIG = Path(__file__).parent / "zensical.toml"
ELSEWHERE = {
    "sdk/README.md": "guides/sdk.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "sdk/CHANGELOG.md": "changelog-sdk.md",
}
"""Pages outside docs/, by the place that they have in the site."""
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\[]+)\]\((?P<target>[^)\s]+)\)")
PATTERN = re.compile(r'^(?P<indent> *)"(?P<pattern>[^"]*\*[^"]*)",$', re.MULTILINE)
FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
EXTERNAL = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//|<link\b(?![^>]*canonical)[^>]*\bhref=["']?(?:https?:)?//"""
)


def main() -> int:
    shutil.rmtree(BUILD, ignore_errors=True)
    pages = BUILD / "pages"
    written = generated_pages()
    for place, text in written.items():
        write(pages / place, text)
    for source, place in staged_pages().items():
        write(pages / place, rewritten(source, place, written))
    for asset in sorted((ROOT / "docs" / "site" / "assets").iterdir()):
        write(pages / "assets" / asset.name, asset.read_text(encoding="utf-8"))
    config = with_all_pages(CONFIG.read_text(encoding="utf-8"), pages)
    problems = list(unlisted(config, pages))
    if problems:
        print(*problems, sep="\n", file=sys.stderr)
        return 1
    write(BUILD / CONFIG.name, config)
    built = subprocess.run(
        [Path(sys.executable).parent / "zensical", "build", "--strict"],
        cwd=BUILD,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if built.returncode:
        print(built.stdout, file=sys.stderr)
        return built.returncode
    problems = list(loaded_from_elsewhere(BUILD / "site"))
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return int(bool(problems))


def staged_pages() -> dict[str, str]:
    """Return the pages that are written by hand: where each is in the repository, and where in the site."""
    docs = ROOT / "docs"
    own = {
        str(page.relative_to(ROOT)): str(page.relative_to(docs))
        for page in sorted(docs.rglob("*.md"))
        if page.relative_to(docs).parts[0] != "site"
    }
    return own | ELSEWHERE


def generated_pages() -> dict[str, str]:
    """Return the pages that are written from the code, by their place in the site."""
    from reference import command_line, contract, settings, topics

    operations = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    metrics = re.search(r"^## Metrics\n(.*?)(?=^## |\Z)", operations, re.MULTILINE | re.DOTALL)
    if metrics is None:
        raise SystemExit("docs/operations.md has no section Metrics")
    return {
        "reference/cli.md": command_line.page(),
        "reference/settings.md": settings.page(),
        "reference/metrics.md": "# Metrics\n" + metrics[1],
        "reference/topics.md": topics.page(ROOT / "docs"),
        **{f"reference/grpc/{name}.md": text for name, text in contract.pages(ROOT / "proto").items()},
    }


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def rewritten(source: str, place: str, written: Collection[str]) -> str:
    """Return a page with its links as they are in the site, where pages of `written` are too. Code is left alone.

    Raises:
        SystemExit: A link leads to no file of the repository.
    """
    staged = staged_pages() | {f"docs/{page}": page for page in written}

    def link(match: re.Match[str]) -> str:
        target, _, anchor = match["target"].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        path = os.path.normpath(PurePosixPath(source).parent / target)
        if path in staged:
            there = os.path.relpath(staged[path], PurePosixPath(place).parent)
            return f"[{match['text']}]({there}{'#' + anchor if anchor else ''})"
        if not (ROOT / path).exists():
            raise SystemExit(f"{source}: a link leads to {target}, which is not there")
        return f"`{path}`" if match["text"].strip("`") == path else f"{match['text']} (`{path}`)"

    parts = FENCE.split((ROOT / source).read_text(encoding="utf-8"))
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)


def with_all_pages(config: str, pages: Path) -> str:
    """Return the configuration with the pages that are there in the place of each pattern (`decisions/0*.md`)."""

    def line(match: re.Match[str]) -> str:
        found = sorted(str(page.relative_to(pages)) for page in pages.glob(match["pattern"]))
        return "\n".join(f'{match["indent"]}"{page}",' for page in found)

    return PATTERN.sub(line, config)


def unlisted(config: str, pages: Path) -> Iterator[str]:
    """Yield what is wrong with the navigation: a page that is in it and does not exist, or the other way round."""
    listed = list(places(tomllib.loads(config)["project"]["nav"]))
    there = {str(page.relative_to(pages)) for page in pages.rglob("*.md")}
    yield from (f"docs/site/zensical.toml: nav lists {page}, which is not there" for page in set(listed) - there)
    yield from (f"docs/site/zensical.toml: nav lacks {page}" for page in sorted(there - set(listed)))


def places(entry: object) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, list | dict):
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from places(inner)


def loaded_from_elsewhere(site: Path) -> Iterator[str]:
    """Yield the pages that would load something from another host when they are opened."""
    for page in sorted(site.rglob("*.html")):
        if found := EXTERNAL.search(page.read_text(encoding="utf-8")):
            yield f"{page.relative_to(site)} loads from another host: {found[0]}"


if __name__ == "__main__":
    sys.exit(main())
