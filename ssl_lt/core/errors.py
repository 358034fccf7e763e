"""Errors a user can mend. Each is shown as one line and has its own exit code."""

from __future__ import annotations


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
    """Processes that do not agree."""

    exit_code = 6


class DiskError(UserError, OSError):
    """A disk that is full or may not be written."""

    exit_code = 7
