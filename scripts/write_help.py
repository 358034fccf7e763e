"""Makes the pages of `--help` anew, after an option has changed: see `ssl_lt.cli.help_pages`."""

from __future__ import annotations

import os

from ssl_lt.cli.help_pages import COMMANDS, made_page, page_file


def main() -> None:
    """Writes the file of each command."""
    os.environ["COLUMNS"] = "80"  # what fits every terminal
    for command in COMMANDS:
        page_file(command).parent.mkdir(exist_ok=True)
        page_file(command).write_text(made_page(command), "utf-8")


if __name__ == "__main__":
    main()
