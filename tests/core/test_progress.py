"""What is said of long loops where nobody trains yet."""

import re

import pytest

from ssl_lt.core import progress
from ssl_lt.core.progress import ProgressBar, bars_alone, track


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """A line for every item."""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", -1.0)


def test_lines_say_how_many_are_done(capsys):
    assert list(track("ab", total=2, label="spelling")) == ["a", "b"]
    lines = [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["spelling: 1 of 2", "spelling: 2 of 2"]


def test_a_line_says_how_long_it_takes_and_what_is_known(capsys):
    with ProgressBar("training", 2_000, first_step=1_000) as bar:
        bar.show(1_500, "loss 4.2")
    assert re.fullmatch(
        r"training: 1,500 of 2,000, 0:00:00 left  loss 4.2\n", capsys.readouterr().err
    )


def test_lines_come_once_a_minute(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 60.0)
    now = iter(range(0, 1000, 25))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with ProgressBar("training", 100) as bar:
        for step in range(1, 11):
            bar.show(step)
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_a_notebook_is_left_in_peace(capsys):
    with bars_alone():
        assert list(track("ab", total=2, label="spelling")) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert list(track("ab", total=2, label="spelling")) == ["a", "b"]
    assert "spelling" in capsys.readouterr().err


def test_one_of_several_processes_speaks(capsys, monkeypatch):
    monkeypatch.setattr(progress, "rank", lambda: 1)
    assert list(track("ab", total=2, label="spelling")) == ["a", "b"]
    assert capsys.readouterr().err == ""
