"""The command line itself: help, usage, exit codes. What the commands do is tested with servers."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from services.edge.cli import __main__ as command_line
from services.edge.cli import traces
from services.edge.cli.errors import ExitCode

Run = Callable[..., tuple[int, str, str]]


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command that does something."""
    pending: list[tuple[tuple[str, ...], Any]] = [((), get_command(command_line.app))]
    while pending:
        words, command = pending.pop()
        below = getattr(command, "commands", {})
        if not below:
            yield words
        pending += [((*words, name), each) for name, each in below.items()]


@pytest.fixture
def lodestream(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs the command with these words, away from any stack: exit code, standard output, standard error."""
    for name in ("ENDPOINT", "PUBLIC_KEY", "SECRET_KEY", "POSTGRES"):
        monkeypatch.delenv(f"LODESTREAM_{name}", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lodestream", *words])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


@pytest.mark.parametrize("words", sorted(commands()), ids=" ".join)
def test_every_command_has_help_with_examples_and_json(lodestream, words: tuple[str, ...]) -> None:
    code, out, err = lodestream(*words, "--help")
    assert (code, err) == (ExitCode.OK, "")
    assert f"    lodestream {' '.join(words)}" in out.partition("Examples:")[2].partition("Options:")[0]
    assert "--json" in out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["traces", "lst"], "No such command 'lst'. Did you mean 'list'?"),
        (["traces", "get"], "Missing argument 'ID'."),
        (["traces", "get", "0af7"], "'0af7' is not a trace id: write all of its 32 hex digits"),
        (["traces", "list", "--since", "yesterday"], "'--since': 'yesterday' is not a duration: write 250ms"),
        (["traces", "list", "--min-latency", "2"], "'--min-latency': '2' is not a duration"),
        (["traces", "list", "--from", "noon"], "'--from': 'noon' is not a time: write 2026-03-01"),
        (["traces", "list", "--since", "1h", "--from", "2026-03-01"], "give either --since or --from"),
        (["traces", "list", "--from", "2026-03-02", "--to", "2026-03-01"], "--to: must be later than --from"),
        (["traces", "list", "--sort", "colour"], "'--sort'"),
        (["traces", "list", "--level", "fatal"], "'--level'"),
        (["traces", "list", "--limit", "0"], "'-n' / '--limit'"),
        (["traces", "list", "--min-cost", "much"], "'--min-cost'"),
        (["traces", "list", "--min-cost", "nan"], "'--min-cost'"),
        (["traces", "list"], "no key: set LODESTREAM_PUBLIC_KEY and LODESTREAM_SECRET_KEY"),
        (["status"], "no key: set LODESTREAM_PUBLIC_KEY and LODESTREAM_SECRET_KEY"),
        (["status", "--secret-key", "k", "--endpoint", "ftp://x"], "the endpoint 'ftp://x' is not host:port"),
        (["datasets", "import", "d", "/no/such/file", "--secret-key", "k"], "/no/such/file: No such file or directory"),
        (["datasets", "import", "d", "x.csv", "--format", "xml", "--secret-key", "k"], "is one of csv, jsonl, json"),
        (["datasets", "import", "d", "x.csv", "--bare-input", "--secret-key", "k"], "needs one --input"),
        (["datasets", "export", "d", "--format", "xml", "--secret-key", "k"], "is csv or jsonl"),
        (["datasets", "export", "d", "--json", "--secret-key", "k"], "standard output can't hold both"),
        (["datasets", "get", "d@3", "--as-of", "2026-01-01"], "give either @VERSION or --as-of"),
        (["datasets", "create", "d", "--metadata", "{", "--secret-key", "k"], "--metadata: is not JSON"),
        (["datasets", "create", "d", "--metadata", "@/no/such", "--secret-key", "k"], "/no/such: No such file"),
        (["admin", "keys", "create"], "Missing argument 'PROJECT'."),
        (["admin", "projects", "create", ""], "must not be empty"),
    ],
)
def test_a_command_line_that_makes_no_sense_ends_with_2(lodestream, words: list[str], complaint: str) -> None:
    code, out, err = lodestream(*words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert complaint in err
    assert "Traceback" not in err


def test_what_fails_is_said_in_one_line_and_ends_with_1(lodestream) -> None:
    code, out, err = lodestream("traces", "list", "--secret-key", "k", "--endpoint", "127.0.0.1:1")
    assert (code, out) == (ExitCode.FAILED, "")
    assert err == "lodestream: 127.0.0.1:1 can't be reached: Connection refused\n"


def test_admin_says_when_postgres_is_away(lodestream, monkeypatch: pytest.MonkeyPatch) -> None:
    for dsn in ("postgresql://127.0.0.1:1/x", "no dsn at all"):
        monkeypatch.setenv("LODESTREAM_POSTGRES", dsn)
        code, out, err = lodestream("admin", "projects", "list")
        assert (code, out) == (ExitCode.FAILED, "")
        assert err.startswith("lodestream: Postgres (LODESTREAM_POSTGRES): ")
        assert err.count("\n") == 1


def test_a_bug_is_one_line_too_and_says_where(lodestream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "document", None)
    monkeypatch.setattr("services.edge.cli.paging.gather", lambda *_: None)
    code, _, err = lodestream("traces", "list", "--secret-key", "k", "--json")
    assert code == ExitCode.FAILED
    assert err.startswith("lodestream: this is a bug: TypeError: ")
    assert "traces.py:" in err
    assert err.count("\n") == 1
