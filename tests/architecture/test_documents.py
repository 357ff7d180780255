"""What is written about the tree: decisions, licences, and what the checks are run by."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "decisions"
PUBLISHED = ("", "proto", "evals", "sdk")  # folders with a pyproject.toml


@pytest.mark.parametrize("page", sorted(DECISIONS.glob("[0-9]*.md")), ids=lambda page: page.stem[:4])
def test_a_decision_has_its_number_a_date_a_status_and_a_line_in_the_index(page: Path) -> None:
    title, empty, status = page.read_text(encoding="utf-8").splitlines()[:3]
    number = page.stem[:4]
    assert title.startswith(f"# {number} ")
    assert not empty
    assert re.match(r"Date: \d{4}-\d{2}-\d{2}\. Status: (accepted|proposed|superseded)\b", status), status
    assert f"| [{number}]({page.name}) | " in (DECISIONS / "README.md").read_text(encoding="utf-8")


def test_no_two_decisions_share_a_number() -> None:
    numbers = [page.stem[:4] for page in DECISIONS.glob("[0-9]*.md")]
    assert len(numbers) == len(set(numbers))


def test_the_files_that_contributing_names_exist() -> None:
    """Names with a folder are paths from the root; others are of a file somewhere in the tree."""
    folders = ("docs", "evals", "proto", "requirements", "sdk", "services", "shared", "tests")
    names = {path.name for folder in folders for path in (ROOT / folder).rglob("*")} | {
        path.name for path in ROOT.iterdir()
    }
    written = re.findall(r"`([\w./-]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    files = [
        name for name in written if name.split("/")[0] in folders or re.search(r"\w\.(py|json|toml|yml|sql)$", name)
    ]
    missing = [name for name in files if not ((ROOT / name).exists() if "/" in name else name in names)]
    assert len(files) > 40
    assert not missing


def test_the_glossary_says_each_word_once_in_order() -> None:
    tables = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").split("## Not used")
    for table in tables:
        words = re.findall(r"^\| ([^|]+?) \|", table, re.MULTILINE)[1:]
        assert len(words) > 20
        assert words == sorted(set(words), key=str.casefold)


@pytest.mark.parametrize("folder", PUBLISHED)
def test_each_package_carries_the_licence(folder: str) -> None:
    licence = (ROOT / folder / "LICENSE").read_text(encoding="utf-8")
    assert licence == (ROOT / "LICENSE").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"


def test_git_hooks_run_verbs_of_the_makefile_and_download_nothing() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"entry: make (\S+)", hooks)) == {"check", "check-quick"} <= verbs
    assert re.findall(r"repo: (\S+)", hooks) == ["local"]
    assert set(re.findall(r"language: (\S+)", hooks)) == {"system"}


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/proof.md"])
def test_the_tests_that_documents_name_exist(page: str) -> None:
    """`faults/test_x.py::test_y`, and `::test_z` for another test of the file that was named before it."""
    files = {path.relative_to(ROOT).as_posix(): path for path in ROOT.glob("tests/**/test_*.py")}
    files |= {path.relative_to(ROOT).as_posix(): path for path in ROOT.glob("sdk/tests/**/test_*.py")}
    named = re.findall(r"([\w/]*\btest_\w+\.py)?(?:::(test_\w+))?", (ROOT / page).read_text(encoding="utf-8"))
    last, missing = "", []
    for file, test in named:
        last = file or last
        found = [path for name, path in files.items() if f"/{name}".endswith(f"/{last}")]
        if (file or test) and not any(f"def {test or 'test_'}" in path.read_text(encoding="utf-8") for path in found):
            missing.append(f"{last}::{test}")
    assert any(file for file, _ in named)
    assert not missing
