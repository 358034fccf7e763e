"""A process that decodes images dies, hangs or fails: one line soon, with the image if known."""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from ssl_lt.augment.views import WorkerCrop
from ssl_lt.core.errors import DataError
from ssl_lt.data.loading.ordered import ordered_batches
from ssl_lt.data.loading.plan import BatchSchedule
from ssl_lt.data.loading.worker_loader import WorkerLoader, fetch
from ssl_lt.data.loading.workers import Workers
from ssl_lt.data.tables.files import FileTable
from ssl_lt.engine.checkpoints.checkpoint import newest_checkpoint
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.engine.out_of_memory import is_out_of_memory
from ssl_lt.runs.life.failure import as_user_error
from tests.toolbox import TINY, call, plain_spec, succeed

pytestmark = pytest.mark.slow  # most of them train

CPU = torch.device("cpu")
NUM_FILES, BATCH_SIZE = 12, 4
MAIN = os.getpid()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(600)


def fail():
    raise KeyError("a fault")


def run_out_of_memory():
    raise MemoryError("Unable to allocate 7 TiB")


@dataclass(frozen=True)
class Broken:
    """A crop that acts when a worker comes to cut a row."""

    act: object
    row: int
    filters = ("bicubic",)

    def boxes(self, epoch, index, sizes):
        return [Acting(self.act) if row == self.row else [(0, 0, 8, 8)] for row in index]


class Acting(list):
    """Boxes that act when a worker looks at them."""

    def __init__(self, act):
        super().__init__([(0, 0, 8, 8)])
        self.act = act

    def __iter__(self):
        if os.getpid() != MAIN:
            self.act()
        return super().__iter__()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of six pictures each."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(NUM_FILES):
        folder = root / ("red" if number % 2 else "blue")
        folder.mkdir(exist_ok=True)
        pixels = np.full((20, 24, 3), 20 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return root


@pytest.fixture
def files(photos):
    names = sorted(str(p.relative_to(photos)).encode() for p in photos.rglob("*.png"))
    return FileTable(photos, np.array(names), torch.arange(NUM_FILES) % 2)


def loader(files, act, step, *, timeout_seconds=60):
    """Its worker acts at the second image of one step; also the rows of all steps."""
    plan = BatchSchedule(NUM_FILES, BATCH_SIZE, seed=5)
    rows = plan.rows(0).tolist()
    workers = Workers(1, timeout_seconds)
    crop = Broken(act, rows[step][1])
    return WorkerLoader(files, crop, plan, spec=plain_spec(8), device=CPU, workers=workers), rows


def children():
    return set(psutil.Process().children())


def ends(batches):
    """The error that batches end with, and how many came before it."""
    found = 0
    try:
        for _ in batches:
            found += 1
    except DataError as error:
        return str(error), found
    raise AssertionError("no error")


@pytest.mark.parametrize(
    ("act", "timeout_seconds", "says"),
    [(die, 60, "a worker died"), (hang, 2, "timed out after 2 seconds (--worker-timeout)")],
)
def test_lost_the_images_that_were_waited_for_are_named(files, act, timeout_seconds, says):
    before = children()
    broken, rows = loader(files, act, 1, timeout_seconds=timeout_seconds)
    started_at = time.monotonic()
    said, found = ends(broken.epoch(0))
    assert time.monotonic() - started_at < 50
    # A batch that was on its way is lost with the worker.
    assert found <= 1
    assert says in said
    assert f"waiting for {files.name(rows[found][0])} and 3 more: " in said
    assert "\n" not in said
    del broken
    assert not children() - before


def test_a_fault_names_its_image(files):
    broken, rows = loader(files, fail, 2)
    said, found = ends(broken.epoch(0))
    assert said == f"{files.name(rows[2][1])}: KeyError: 'a fault'"
    assert found == 2


def test_memory_that_runs_out_in_a_worker_is_said_as_such(files):
    broken, _ = loader(files, run_out_of_memory, 0)
    with pytest.raises(MemoryError) as error:
        list(broken.epoch(0))
    assert is_out_of_memory(error.value)
    assert as_user_error(error.value).exit_code == 8


def test_lost_in_evaluation(files):
    class Dying(FileTable):
        def encoded(self, row):
            if row == 5 and os.getpid() != MAIN:
                die()
            return super().encoded(row)

    dying = Dying(files.root, files.names, files.labels)
    batches = ordered_batches(
        dying, batch_size=4, spec=plain_spec(8), device=CPU, workers=Workers(1, 60)
    )
    said, found = ends(batches)
    assert found <= 1
    assert f"waiting for {files.name(4 * found)} and 3 more: a worker died" in said


def test_killed_in_the_middle_of_a_step(files):
    """Torch raises then wherever the main process is."""
    before = children()
    healthy, _ = loader(files, die, 0)
    healthy.loader.dataset.crop = Broken(die, -1)
    batches = healthy.epoch(0)
    next(batches)
    (worker,) = children() - before

    def step():
        worker.kill()
        time.sleep(20)

    with pytest.raises(RuntimeError) as error:
        step()
    known = as_user_error(error.value)
    assert isinstance(known, DataError)
    assert str(known).startswith("--num-workers: a worker died")


def test_output_into_a_full_disk_is_one_line():
    error = as_user_error(OSError(errno.ENOSPC, "No space left on device"))
    assert str(error) == "the output: cannot be written: No space left on device"
    assert error.exit_code == 7


def test_a_connection_that_is_reset_is_a_worker_that_died(files):
    def resets():
        yield "a batch"
        raise ConnectionResetError(104, "Connection reset by peer")

    said, found = ends(fetch(resets(), files, [[(0, 3)], [(0, 7), (0, 1)]]))
    assert found == 1
    assert f"waiting for {files.name(7)} and 1 more: a worker died" in said
    assert as_user_error(ConnectionResetError(104, "reset")).exit_code == 3


def test_other_errors_pass():
    def fails():
        yield "a batch"
        raise RuntimeError("a fault of the program")

    with pytest.raises(RuntimeError, match="a fault of the program"):
        list(fetch(fails(), None, []))
    assert as_user_error(RuntimeError("a fault of the program")) is None


@pytest.mark.slow
def test_a_run_ends_with_code_3_and_goes_on_later(photos, empty, monkeypatch):
    words = ["--data", f"folder:{photos}", "--cache-mib", "0", "--image-size", "32"]
    words += ["--batch-size", "4", "--epochs", "2", "--num-workers", "1", "--knn-every", "0"]
    boxes, command = WorkerCrop.boxes, os.getpid()

    def dies_in_the_second_epoch(self, epoch, *where):
        if epoch == 1 and os.getpid() != command:
            die()
        return boxes(self, epoch, *where)

    monkeypatch.setattr(WorkerCrop, "boxes", dies_in_the_second_epoch)
    outcome = call("pretrain", *TINY, *words, "--run-dir", "run")
    assert outcome.code == 3
    (line,) = [line for line in outcome.err if line.startswith("error")]
    assert line.startswith("error: --num-workers: ")
    assert "a worker died" in line
    assert not any("Traceback" in line for line in outcome.err)
    steps = newest_checkpoint(RunFolder(empty / "run").checkpoints).step
    monkeypatch.setattr(WorkerCrop, "boxes", boxes)
    succeed("pretrain", "--resume", "run")
    assert newest_checkpoint(RunFolder(empty / "run").checkpoints).step == 2 * steps
