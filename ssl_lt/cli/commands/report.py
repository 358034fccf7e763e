"""`ssl-lt report`: one page that compares runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ssl_lt.cli.config.parse import split_arguments, take_values
from ssl_lt.core.errors import EXIT_CODES, ConfigError, DataError, UserError
from ssl_lt.evaluate.picture_records import Pictures, read_pictures
from ssl_lt.report.pages.page import write_page
from ssl_lt.report.records.results import RunResult, read_results
from ssl_lt.report.tables.summary import summary_tables
from ssl_lt.report.tables.table import to_rich

_USAGE = f"""usage: ssl-lt report RUN [RUN ...] [--output FILE.html]

Compares runs that evaluate.py has judged: folders, or results.json files. The page is written to
runs/report/index.html, with the same as Markdown and JSON beside it. A run that cannot be read is
named and left out; the exit code is then that of its error.

{EXIT_CODES}"""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    words = split_arguments(arguments)
    if "--help" in words or "-h" in words:
        print(_USAGE, end="")
        return 0
    output = take_values(words, "--output")
    unknown = [word for word in words if word.startswith("--")]
    if unknown:
        raise ConfigError(f"unknown flag {unknown[0]}; report knows --output")
    if not words:
        raise ConfigError("report: no run given; ssl-lt report runs/a runs/b")
    page = Path(output[0]) if output else Path("runs/report/index.html")
    if page.suffix != ".html":
        raise ConfigError(f"--output: {page} does not end in .html")
    results, pictures, code = _read_all([Path(word) for word in words])
    if not results:
        return code
    write_page(results, page, pictures=pictures)
    console = Console()
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
