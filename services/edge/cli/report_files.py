"""The options that write a report into files, and writing it."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from lodestream.reports import Report, as_html, as_json, as_junit, as_markdown, as_text

from services.edge.cli import screen
from services.edge.cli.files import write_text


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where each format goes; None: nowhere."""

    html: Path | None
    markdown: Path | None
    junit: Path | None
    trace_url: str

    @property
    def any(self) -> bool:
        """Whether one is to be written."""
        return bool(self.html or self.markdown or self.junit)

    def write(self, report: Report) -> None:
        """Raises Failure."""
        for file, form in ((self.html, as_html), (self.markdown, as_markdown), (self.junit, as_junit)):
            if file is not None:
                write_text(file, form(report))
                screen.remark(f"wrote {file}")


def report_files(
    *,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page for a browser, in one file.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a comment for a pull request.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write test results for a CI server.")] = None,
    trace_url: Annotated[
        str,
        typer.Option(
            envvar="LODESTREAM_TRACE_URL",
            metavar="URL",
            help="Where traces are looked at; {trace_id} stands for the id.",
        ),
    ] = "",
) -> ReportFiles:
    """Reports as files."""
    return ReportFiles(html, markdown, junit, trace_url)


def show_report(report: Report, *, as_document: bool) -> None:
    """On standard output: for people, or as a JSON document."""
    if as_document:
        sys.stdout.write(as_json(report))
    else:
        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        sys.stdout.write(as_text(report, width=screen.width(), color=color))
    sys.stdout.flush()
