"""The documentation's builder: links are turned or refused, and no page is forgotten or loads from another host."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

SITE = Path(__file__).parents[2] / "docs" / "site"


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The builder, over an empty repository."""
    monkeypatch.syspath_prepend(str(SITE))
    module = importlib.import_module("build")
    monkeypatch.delitem(sys.modules, "build")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    for page in ("docs/index.md", "docs/guides/prompts.md", "sdk/README.md", "services/app.py"):
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text("", encoding="utf-8")
    return module


@pytest.mark.parametrize(
    ("link", "turned"),
    [
        ("[SDK](../../sdk/README.md#masking)", "[SDK](sdk.md#masking)"),
        ("[start](../index.md)", "[start](../index.md)"),
        ("[help](../reference/cli.md)", "[help](../reference/cli.md)"),
        ("[the app](../../services/app.py)", "the app (`services/app.py`)"),
        ("[services/app.py](../../services/app.py)", "`services/app.py`"),
        ("[away](https://example.org/x)", "[away](https://example.org/x)"),
        ("[here](#below)", "[here](#below)"),
        ("```\n[code](nowhere.md)\n```", "```\n[code](nowhere.md)\n```"),
    ],
)
def test_links_lead_to_where_pages_are_in_the_site(build: Any, tmp_path: Path, link: str, turned: str) -> None:
    (tmp_path / "docs/guides/prompts.md").write_text(link, encoding="utf-8")
    assert build.rewritten("docs/guides/prompts.md", "guides/prompts.md", {"reference/cli.md"}) == turned


def test_a_link_to_a_file_that_does_not_exist_is_refused(build: Any, tmp_path: Path) -> None:
    (tmp_path / "docs/index.md").write_text("[gone](../services/gone.py)", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"docs/index\.md: a link leads to \.\./services/gone\.py"):
        build.rewritten("docs/index.md", "index.md", ())


def test_the_navigation_holds_each_page(build: Any, tmp_path: Path) -> None:
    config = '[project]\nnav = [\n  { "Start" = ["index.md", "gone.md"] },\n  "guides/*.md",\n]\n'
    config = build.with_all_pages(config, tmp_path / "docs")
    (tmp_path / "docs/new.md").write_text("", encoding="utf-8")
    assert list(build.unlisted(config, tmp_path / "docs")) == [
        "docs/site/zensical.toml: nav lists gone.md, which is not there",
        "docs/site/zensical.toml: nav lacks new.md",
    ]


@pytest.mark.parametrize(
    ("html", "refused"),
    [
        ('<script src="https://unpkg.com/x.js"></script>', True),
        ('<link rel="stylesheet" href="//fonts.example.org/x.css">', True),
        ("<img src=http://example.org/x.png>", True),
        ('<a href="https://example.org">away</a><script src="../x.js"></script>', False),
        ('<link rel="canonical" href="https://example.org/">', False),
    ],
)
def test_a_page_that_loads_from_another_host_is_refused(
    build: Any, tmp_path: Path, html: str, *, refused: bool
) -> None:
    (tmp_path / "index.html").write_text(html, encoding="utf-8")
    assert bool(list(build.loaded_from_elsewhere(tmp_path))) is refused
