"""`--mirror`: a copy of the run elsewhere, made by rank 0 while the run goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from ssl_lt.core.distributed import gather_objects, rank
from ssl_lt.core.errors import UserError
from ssl_lt.engine.mirror import Mirror
from ssl_lt.engine.run_folder import RunFolder


@contextmanager
def mirrored(folder: RunFolder, url: str | None) -> Iterator[None]:
    """Meanwhile each checkpoint of the run is copied, and at the end all of it.

    Args:
        folder: that rank 0 makes, or that goes on.
        url: of `--mirror`; None: nothing is copied.

    Raises:
        ConfigError, CheckpointError, DiskError: on all ranks, as `Mirror` says; at the end on rank
            0 alone.
    """
    if url is None:
        yield
        return
    mirror, problem = _opened(folder, url) if rank() == 0 else (None, None)
    problem = gather_objects(problem)[0]
    if problem is not None:
        raise problem
    with mirror or nullcontext():
        yield
    if mirror is not None:
        print(f"mirror: {mirror.url}")


def _opened(folder: RunFolder, url: str) -> tuple[Mirror | None, UserError | None]:
    """The mirror, or what is in the way, for all ranks to raise."""
    try:
        return Mirror(folder, url, warn=lambda line: print(line, file=sys.stderr)), None
    except UserError as error:
        return None, error
