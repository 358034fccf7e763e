"""`ssl-lt report`: one page that compares runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_lt.cli.config.command_line import Files, read_words, show_help
from ssl_lt.core.disk.text import Terminal
from ssl_lt.core.errors import ConfigError, DataError, UserError
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.evaluate.picture_records import Pictures, read_pictures
from ssl_lt.report.pages.page import write_page
from ssl_lt.report.records.results import RunResult, read_results
from ssl_lt.report.tables.summary import summary_tables
from ssl_lt.report.tables.table import to_rich
from ssl_lt.runs.config.parse import parse_known, refuse_unknown
from ssl_lt.runs.life.find import members_of

_USAGE = "ssl-lt report RUN [RUN ...] [--output FILE.html]"


@dataclass(frozen=True)
class ReportConfig:
    """Compare runs that evaluate.py has judged: folders, or results.json files.

    A run that cannot be read is named and left out; the exit code is then that of its error.
    """

    output: Path = Path("runs/report/index.html")
    """Page to write, with the same as Markdown and JSON beside it."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    if show_help(arguments, usage=_USAGE, default=ReportConfig(), files=Files()):
        return 0
    words = read_words(arguments, Files()).all
    parsed = parse_known(ReportConfig, words, default=ReportConfig())
    paths, page = [word for word in parsed.rest if not word.startswith("-")], parsed.config.output
    refuse_unknown([word for word in parsed.rest if word.startswith("-")], known=["output"])
    if not paths:
        raise ConfigError("report: no run given; ssl-lt report runs/a runs/b")
    if page.suffix != ".html":
        raise ConfigError(f"--output: {page} does not end in .html")
    results, pictures, code = _read_all([Path(path) for path in paths])
    if not results:
        return code
    write_page(results, page, pictures=pictures)
    console = Terminal()
    for table in summary_tables(results):
        console.print(to_rich(table))
    print(f"report: {page.resolve()}")
    return code


def _read_all(paths: Sequence[Path]) -> tuple[list[RunResult], list[Pictures], int]:
    """Every readable result; the others are named on stderr, and the last one's code is kept.

    A run whose pictures cannot be read is named too, and shown without them.
    """
    results, pictures, code = [], list[Pictures](), 0
    for path in paths:
        try:
            if members := members_of(RunFolder(path)):
                paths_of = " ".join(str(member.path) for member in members)
                raise DataError(f"{path}: holds several runs; ssl-lt report {paths_of}")
            result = read_results(path / "results.json" if path.is_dir() else path)
            if not result.evaluations:
                raise DataError(f"{path}: not evaluated yet; evaluate.py --run {path}")
            results.append(result)
            pictures.append(Pictures())
            folder = (path if path.is_dir() else path.parent) / "report"
            pictures[-1] = read_pictures(folder, num_classes=len(result.data.class_names))
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            code = error.exit_code
    return results, pictures, code
