"""Errors a user can mend. Each is shown as one line and has its own exit code."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 5
_MOST_SIGNS = 200  # of a path

# At the end of each command's --help.
EXIT_CODES = """\
Exit codes: 0 done, 1 a fault of ssl_lt, 2 configuration, 3 data, 4 checkpoint, 5 a loss or gradient
that is not finite, 6 processes that disagree or are lost, 7 disk, 8 memory, 130 or 143 stopped by a
signal, 141 because nobody reads the output, with the state saved. SSL_LT_DEBUG=1 in the environment
shows where an error was raised.
"""


def shortened(names: Sequence[str]) -> str:
    """The first five names and how many more there are, for a message."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def short_path(path: object) -> str:
    """A path for a message, without its middle where it is very long."""
    text = str(path)
    half = _MOST_SIGNS // 2
    return text if len(text) <= _MOST_SIGNS else f"{text[:half]}...{text[-half:]}"


def first_line(error: BaseException) -> str:
    """What an error of a library says, in a line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class UserError(Exception):
    """Something the user can mend; `exit_code` tells a script what kind."""

    exit_code = 1


class ConfigError(UserError, ValueError):
    """A flag, a key or a value."""

    exit_code = 2


class DataError(UserError, ValueError):
    """A file, a folder or an image."""

    exit_code = 3


class CheckpointError(UserError, ValueError):
    """A checkpoint that is damaged or belongs to something else."""

    exit_code = 4


class NumericError(UserError, ArithmeticError):
    """A loss or a gradient that is not finite."""

    exit_code = 5


class DistributedError(UserError, RuntimeError):
    """Processes that do not agree, or that have lost each other."""

    exit_code = 6


class DiskError(UserError, OSError):
    """A disk that is full or may not be written."""

    exit_code = 7


class OutOfMemoryError(UserError, MemoryError):
    """More memory asked for than there is, on the device or on the host."""

    exit_code = 8
