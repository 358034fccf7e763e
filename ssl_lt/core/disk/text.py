"""Text for streams and readers that do not take every sign."""

from __future__ import annotations

import codecs
import os
import select
import sys
from typing import TextIO

from rich.console import Console

CLOSED_PIPE = 141  # exit code: 128 + SIGPIPE, as of a program that the signal ends

_ERRORS = "ssl_lt.plain"  # how our streams and `printable` write what cannot be encoded
_PLAIN = {
    "−": "-", "±": "+/-", "…": "...", "·": "-", "“": '"', "”": '"', "✓": "+", "✗": "x", "²": "^2",
}  # fmt: skip


def printable(text: str) -> str:
    """The text with the bytes of a file name that are no UTF-8 written in hexadecimal."""
    return text.encode("utf-8", _ERRORS).decode("utf-8")


def write_any_text() -> None:
    """Stdout and stderr replace what their encoding does not have, instead of failing.

    One that the program was started without takes everything and keeps nothing.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123
        _accept_all(getattr(sys, name))


def close_broken_streams() -> bool:
    """Whether nobody reads stdout or stderr any more; what is written to such a one is dropped."""
    found = False
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
            if _has_reader(stream.fileno()):
                continue
        except BrokenPipeError:
            pass
        except (OSError, ValueError):  # no file, or closed by the program
            continue
        found = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    return found


def _has_reader(descriptor: int) -> bool:
    if not hasattr(select, "poll"):
        return True
    waiting = select.poll()
    waiting.register(descriptor, 0)
    return not any(event & select.POLLERR for _, event in waiting.poll(0))


class Terminal(Console):
    """A console that leaves it to its caller what happens when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Raises the BrokenPipeError: rich would end the process here."""
        raise


def _accept_all(stream: TextIO) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:  # a stream that a program has put there may have none
        reconfigure(errors=_ERRORS)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """A handler of codecs: what to write instead, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_sign, error.object[error.start : error.end])), error.end


def _sign(sign: str) -> str:
    if "\udc80" <= sign <= "\udcff":  # a byte, as Python holds it in file names
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return _PLAIN.get(sign, "?")


codecs.register_error(_ERRORS, _plainly)
