"""What is said of long loops where nobody trains yet."""

import pytest

from ssl_lt.core import progress
from ssl_lt.core.progress import bars_alone, track


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """A line for every item."""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", -1.0)


def test_lines_say_how_many_are_done(capsys):
    assert list(track("ab", total=2, label="spelling")) == ["a", "b"]
    assert capsys.readouterr().err.splitlines() == ["spelling: 1 of 2", "spelling: 2 of 2"]


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
