"""What all benchmarks share: a process of its own, and candidates that take turns."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch

T = TypeVar("T")
Clock = Callable[[], float]


def in_new_process(function: Callable[..., T], *arguments: object) -> T:
    """What a function at the top of a module returns; the process starts from nothing."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def in_turn(
    candidates: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    warm_up: int = 1,
    clock: Clock = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each candidate.

    They take turns, so that a machine that slows down for a while slows all of them down.

    Args:
        candidates: what is timed.
        rounds: how often each is called and timed.
        warm_up: rounds before these.
        clock: `time.process_time`, with one thread, is less disturbed by other programs.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + warm_up):
        for name, candidate in candidates.items():
            _synchronise()
            started_at = clock()
            candidate()
            _synchronise()
            if number >= warm_up:
                seconds[name].append(clock() - started_at)
    return {name: median(found) for name, found in seconds.items()}


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def parser(description: str | None, choices: Mapping[str, Any]) -> argparse.ArgumentParser:
    """The flags that every benchmark has."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--what", choices=[*choices], required=True)
    made.add_argument("--quick", action="store_true", help="one round, to see that it works")
    made.add_argument("--json", type=Path, help="write the numbers to this file")
    return made


def report(rows: Mapping[str, Mapping[str, float]], *, json_path: Path | None) -> None:
    """Prints a table and, where asked, writes it as JSON."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    widths = [max(10, len(column) + 2) for column in columns]
    titles = "".join(f"{c:>{w}s}" for c, w in zip(columns, widths, strict=True))
    first = 2 + max(len(name) for name in rows)
    print(" " * first + titles)
    for name, row in rows.items():
        cells = (
            f"{row[c]:{w},.4g}" if c in row else " " * w
            for c, w in zip(columns, widths, strict=True)
        )
        print(f"{name:{first}s}" + "".join(cells))
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=2) + "\n")
