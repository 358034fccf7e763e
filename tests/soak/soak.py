"""Kills and resumes a training at random, many times, and holds the end against an undisturbed one.

Every life of a run is a process of its own, forked from this one, and ended by a real signal:
SIGKILL mostly, sometimes SIGTERM or SIGINT. This process has imported everything and computed
nothing, so there is no pool of threads that a fork could lose, and a life begins in a fraction of a
second instead of the seconds that importing torch takes. What a life does from there on is the
command's own code: `ssl-lt pretrain`, and `ssl-lt pretrain --resume`.

A kill is aimed at a moment (starting, a step, a checkpoint, a measurement, the end) and comes a
random time after it; the table says where kills hit, as the folder shows it. A run that reaches its
end is compared with the undisturbed one, bit for bit: weights, optimiser, memories, the lines of
metrics.jsonl (none lost, none twice), scores, the exported network, and no file left over. Then the
next run begins. A soak that was itself ended goes on where it was: everything is in --output.

    python -m tests.soak.soak --kills 300

Exit code: 0 all the same, 1 a difference, or a life that ended as none should.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from ssl_lt.cli.main import run_command
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from tests.soak.compare import differences, newest_step, number_of_lines
from tests.soak.tally import Tally, table

# Two branches, a memory, a class prior: all that a checkpoint can hold. Lines and checkpoints fall
# on different steps, so that some checkpoints hold sums of a line that is not written yet.
WORDS = shlex.split(
    "--method sdclr --plugins bcl gh --gh.clusters 10 --gh.warmup-epochs 1 --width 4 "
    "--image-size 16 --batch-size 64 --warmup-epochs 1 --num-workers 0 --mixed-precision no "
    "--log-every 2 --knn-every 2 --checkpoint-every 3"
)
PRELOADED = ("ssl_lt.cli.commands.pretrain", "ssl_lt.models.backbones", "sklearn.datasets", "faiss")
STEPS_PER_EPOCH = 9
PATIENCE_SECONDS = 1800
# A signal -> exit codes that are right for it, beside 0 where the run was finished before.
ENDS = {
    signal.SIGKILL: {-signal.SIGKILL},
    # Before the first step and after the last there is nothing to save.
    signal.SIGTERM: {143, -signal.SIGTERM},
    signal.SIGINT: {130, -signal.SIGINT},
}


class Life:
    """One process of a run, from its start or resumption to its end."""

    def __init__(self, place: Path, run: RunFolder, *, epochs: int) -> None:
        words = [*WORDS, "--epochs", str(epochs), "--run-dir", run.path.name]
        if run.path.exists():
            words = ["--resume", run.path.name]
        self.pid = os.fork()
        if self.pid == 0:
            code = 130  # of a SIGINT that comes before the command, or after it
            try:
                code = _exit_code(place, words)
            finally:
                os._exit(code)
        self.code: int | None = None

    def is_over(self) -> bool:
        """Whether it has ended; `code` is then its exit code, or minus the signal it died of."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait_for(self, happened: Callable[[], bool]) -> None:
        """Until something has happened or the life is over."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (self.is_over() or happened()):
            if time.monotonic() > deadline:
                self.end(signal.SIGKILL)
                sys.exit(f"error: nothing happened for {PATIENCE_SECONDS} s, see soak.log")
            time.sleep(0.0005)

    def end(self, number: signal.Signals | None = None) -> int:
        """Waits, after a signal if one is given; the exit code."""
        if number is not None and not self.is_over():
            os.kill(self.pid, number)
        self.wait_for(lambda: False)
        assert self.code is not None
        return self.code


def _exit_code(place: Path, words: list[str]) -> int:
    os.chdir(place)
    sys.stdout = sys.stderr = (place / "soak.log").open("a", buffering=1)
    try:
        run_command("pretrain", words)
    except SystemExit as stop:
        return int(stop.code or 0)
    except Exception:  # what a process would print before it ends
        traceback.print_exc()
    return 1


def aimed_moment(
    run: RunFolder, rng: random.Random, *, epochs: int
) -> Iterator[Callable[[], bool] | float]:
    """What a kill waits for, one after the other: that something happens, or seconds."""
    newest = newest_step(run)
    aims = ["start", "step", "checkpoint", "checkpoint", "measurement"]
    if newest > (epochs - 1) * STEPS_PER_EPOCH:
        aims += ["end", "end"]
    aim = rng.choice(aims)
    if aim == "start":
        yield rng.uniform(0, 1.0)
    elif aim == "step":
        # Of this life: what the one before wrote after its checkpoint goes first.
        wanted = newest // 2 + rng.randint(1, 3)
        yield lambda: newest_step(run) > newest or number_of_lines(run) > wanted
        yield rng.uniform(0, 0.2)
    elif aim == "checkpoint":
        yield lambda: any(run.checkpoints.glob(".tmp-*"))
        yield rng.uniform(0, 0.02)
    elif aim == "measurement":
        # The epoch's own checkpoint is there and what is measured after it is not.
        yield lambda: newest_step(run) > newest and newest_step(run) % STEPS_PER_EPOCH == 0
        yield rng.uniform(0, 0.2)
    else:
        yield lambda: run.results.is_file() or any(run.path.glob(".results*"))
        yield rng.uniform(0, 0.1)


def where_it_hit(run: RunFolder, *, lines_before: int, step_before: int) -> str:
    """What the folder says of the moment its process ended."""
    if not run.path.exists():
        return "before there is a folder"
    for place, pattern, name in (
        (run.checkpoints, ".tmp-*-old", "deleting an old checkpoint"),
        (run.checkpoints, ".tmp-*", "writing a checkpoint"),
        (run.path, ".metrics*", "trimming the log"),
        (run.path, ".results*", "after the last step"),
        (run.path, ".exported*", "after the last step"),
        (run.path, "results.json", "after the last step"),
    ):
        if any(place.glob(pattern)):
            return name
    if number_of_lines(run) == lines_before and newest_step(run) == step_before:
        return "starting or first steps"
    last = json.loads(run.metrics.read_text().splitlines()[-1]) if number_of_lines(run) else {}
    if (
        last.get("step") == newest_step(run)
        and last["step"] % STEPS_PER_EPOCH == 0
        and "loss" in last
    ):
        return "measuring after an epoch"
    return "between two checkpoints"


def soak(place: Path, tally: Tally, *, kills: int, seconds: float, epochs: int, seed: int) -> None:
    """Runs until there were enough kills or the time is over, and the last run is compared.

    Raises:
        SystemExit: a difference, or an end that should not be.
    """
    begun, before = time.monotonic(), tally.seconds
    undisturbed = RunFolder(place / "undisturbed")
    if not undisturbed.is_finished:
        shutil.rmtree(undisturbed.path, ignore_errors=True)
        if Life(place, undisturbed, epochs=epochs).end() != 0:
            sys.exit(f"error: the undisturbed run failed, see {place / 'soak.log'}")
    while True:
        run = RunFolder(place / f"run-{tally.compared + 1:03d}")
        enough = sum(tally.kills.values()) >= kills or tally.seconds >= seconds
        if run.is_finished:
            compare(run, undisturbed, tally)
            shutil.rmtree(run.path)
        elif enough and not run.path.exists():
            return
        else:
            one_life(place, run, tally, epochs=epochs, seed=None if enough else seed)
        tally.seconds = before + time.monotonic() - begun
        tally.write(place / "soak.json")


def one_life(place: Path, run: RunFolder, tally: Tally, *, epochs: int, seed: int | None) -> None:
    """Starts or resumes a run and, with a seed, kills it.

    Raises:
        SystemExit: it ended as no life should.
    """
    lines_before, step_before = number_of_lines(run), newest_step(run)
    tally.lives += 1
    life = Life(place, run, epochs=epochs)
    if seed is None:
        code, asked = life.end(), None
    else:
        rng = random.Random(f"{seed}-{tally.lives}")
        for moment in aimed_moment(run, rng, epochs=epochs):
            if callable(moment):
                life.wait_for(moment)
            else:
                time.sleep(moment)
        polite = [signal.SIGTERM, signal.SIGINT]
        asked = rng.choice([signal.SIGKILL] * 8 + polite)
        code = life.end(asked)
    if code != 0 and (asked is None or code not in ENDS[asked]):
        by = f" after {asked.name}" if asked else ""
        sys.exit(f"error: {run.path} ended with {code}{by}, see {place / 'soak.log'}")
    if code != 0 and asked is not None:
        where = where_it_hit(run, lines_before=lines_before, step_before=step_before)
        tally.kills[f"{where}: {asked.name}"] += 1


def compare(run: RunFolder, undisturbed: RunFolder, tally: Tally) -> None:
    """Counts a run that is the same as the undisturbed one.

    Raises:
        SystemExit: it is not; says in what.
    """
    found = differences(run, undisturbed)
    if found:
        sys.exit("\n".join([f"error: {run.path} is not {undisturbed.path}:", *found]))
    tally.compared += 1
    tally.lines += number_of_lines(run)


def main() -> None:
    """Prints a table; soak.json in --output has the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="how many, at most")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long, at most")
    parser.add_argument("--epochs", type=int, default=8, help="of 9 steps; length of a run")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--output", type=Path, default=Path("runs/soak"))
    arguments = parser.parse_args()
    for name in PRELOADED:
        __import__(name)
    torch.set_num_threads(1)  # sums of several threads are not the same to the last bit
    place = arguments.output.resolve()
    place.mkdir(parents=True, exist_ok=True)
    tally = Tally.read(place / "soak.json")
    soak(
        place, tally,
        kills=arguments.kills, seconds=60 * arguments.minutes,
        epochs=arguments.epochs, seed=arguments.seed,
    )  # fmt: skip
    print(table(tally))


if __name__ == "__main__":
    main()
