"""A new run: its folder, what is written into it before the first step, and its trackers."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from torch import nn

from ssl_lt.core.errors import ConfigError, DistributedError, first_line
from ssl_lt.core.processes.distributed import gather_objects, rank
from ssl_lt.data.dataset import Data
from ssl_lt.data.splits.images import write_images
from ssl_lt.data.splits.split import read_split, write_split
from ssl_lt.data.splits.unreadable import write_bad_images
from ssl_lt.engine.checkpoints.run_folder import RunFolder, new_run_folder
from ssl_lt.engine.out_of_memory import is_out_of_memory
from ssl_lt.engine.signals import Stopped
from ssl_lt.evaluate.features.embed import evaluation_mode
from ssl_lt.report.records.curves import read_curves
from ssl_lt.runs.config.stored import AnyConfig, TrainConfig, effective_mapping, write_config
from ssl_lt.runs.life.find import shared_path

_CALL: ContextVar[str | None] = ContextVar("call", default=None)


@contextmanager
def called_as(call: str) -> Iterator[None]:
    """Runs that start in this context were not typed; `call` is how they were asked for."""
    token = _CALL.set(call)
    try:
        yield
    finally:
        _CALL.reset(token)


def command() -> str:
    """What this process was asked, as it was typed or called."""
    return _CALL.get() or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def start_run(
    name: Path,
    config: TrainConfig,
    data: Data,
    accelerator: Accelerator,
    *,
    verb: str,
    started_from: Mapping[str, str] | None = None,
) -> RunFolder:
    """Makes the folder, writes what the run is and starts the trackers, before its first step.

    Args:
        name: of the folder.
        config: of the run.
        data: it trains on.
        accelerator: made for it.
        verb: "pretrain" or "finetune".
        started_from: facts of the weights, see `InitSource`.

    Raises:
        ConfigError: the folder exists, or a tracker does not start.
        DataError: a file of the data is not there.
        DistributedError: another machine does not see it.
    """
    _ = data.sha256  # looks every file up: one that is missing leaves no run behind
    folder = write_run_folder(name, config, data, accelerator, verb=verb, started_from=started_from)
    values = effective_mapping(config)
    plain = {k: str(value) if isinstance(value, list) else value for k, value in values.items()}
    with removed_if_nothing_came(folder):
        try:
            accelerator.init_trackers("ssl_lt", config={**plain, "run": folder.path.name})
        except Exception as error:  # whatever the package of a tracker raises
            names = ", ".join(config.fit.trackers)
            raise ConfigError(f"--trackers: {names} does not start: {first_line(error)}") from error
    return folder


def check_network(backbone: nn.Module, name: str, *, image_size: int) -> None:
    """Shows the network a black picture, before a run is made for it.

    Args:
        backbone: (B, 3, S, S) -> (B, feature_dim(backbone)).
        name: of it, for the message.
        image_size: S.

    Raises:
        ConfigError: it does not take pictures of this size, or gives features of another shape.
    """
    from ssl_lt.models.backbones import feature_dim  # seconds to import, but for networks' sake

    device = next(backbone.parameters()).device
    try:
        with evaluation_mode(backbone), torch.no_grad():
            features = backbone(torch.zeros(1, 3, image_size, image_size, device=device))
    except Exception as error:  # whatever the code of a foreign network raises
        if is_out_of_memory(error):
            raise
        raise ConfigError(
            f"--backbone: {name} does not take images of {image_size} x {image_size} pixels "
            f"(--image-size): {first_line(error)}"
        ) from error
    wanted = (1, feature_dim(backbone))
    if tuple(features.shape) != wanted:
        raise ConfigError(
            f"--backbone: {name} turns an image into features of shape {tuple(features.shape)}, "
            f"which should be {wanted}; see global_pool in --model-kwargs"
        )


@contextmanager
def removed_if_nothing_came(folder: RunFolder) -> Iterator[None]:
    """A new run that fails before it has logged a step, saved or evaluated leaves no folder.

    What it goes on from, of an earlier run, is nothing of its own.
    """
    begun = _progress(folder)
    try:
        yield
    except Stopped:
        raise  # asked to end before its first step, and may begin again
    except BaseException:
        if rank() == 0 and _progress(folder) == begun:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


def _progress(folder: RunFolder) -> tuple[object, ...]:
    """Changes as soon as a run has logged a step, saved or evaluated."""
    curves = read_curves(folder.metrics) if folder.metrics.is_file() else {}
    # What was measured before the first step has no learning rate.
    logged = len(curves["lr"].values) if "lr" in curves else 0
    saved = sorted(path.name for path in folder.checkpoints.glob("step-*"))
    return logged, saved, folder.results.is_file()


def write_run_folder(
    name: Path,
    config: AnyConfig,
    data: Data,
    accelerator: Accelerator | PartialState,
    *,
    verb: str,
    started_from: Mapping[str, str] | None = None,
) -> RunFolder:
    """Makes the folder and writes what the run is.

    Raises:
        ConfigError: the folder exists.
        DistributedError: another machine does not see it.
    """
    name = shared_path(name)
    images = data.images if accelerator.is_main_process else None
    accelerator.wait_for_everyone()  # until each rank has seen that there is no such folder
    if accelerator.is_main_process:
        with new_run_folder(name) as folder:
            write_split(folder.split, data.split)
            if data.options.test_split is not None:
                write_split(folder.test_split, read_split(data.options.test_split))
            if images is not None:
                write_images(folder.images, images)
            if data.options.bad_images == "skip":
                write_bad_images(folder.bad_images, data.bad_images)
            write_config(
                folder.config, config, verb=verb, command=command(), started_from=started_from
            )
    accelerator.wait_for_everyone()
    _check_visible(RunFolder(name))
    return RunFolder(name)


def _check_visible(run: RunFolder) -> None:
    """Every process must see the folder that rank 0 has made, to go on from it some day.

    Raises:
        DistributedError: on all processes; names the first that does not see it.
    """
    sees = gather_objects(run.config.is_file())
    if not all(sees):
        raise DistributedError(
            f"{run.path}: was made by process 0, and process {sees.index(False)} does not see it: "
            "remove it and give a --run-dir on a disk that all machines share"
        )
