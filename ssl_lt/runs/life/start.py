"""A new run: its folder, what is written into it before the first step, and its trackers."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ssl_lt.cli.config.parse import write_config
from ssl_lt.core.distributed import gather_objects, rank
from ssl_lt.core.errors import DistributedError
from ssl_lt.data.dataset import Data
from ssl_lt.data.splits.split import read_split, write_split
from ssl_lt.data.splits.unreadable import write_bad_images
from ssl_lt.engine.checkpoints.run_folder import RunFolder, new_run_folder
from ssl_lt.runs.config.schema import to_mapping
from ssl_lt.runs.life.find import shared_path

# A network file system may show another machine's new folder late; Linux keeps what it has seen of
# a folder on NFS for up to a minute.
_PATIENCE_SECONDS = 60.0


def start_run(
    name: Path, config: Any, data: Data, accelerator: Accelerator, *, verb: str
) -> RunFolder:
    """Makes the folder, writes what the run is and starts the trackers, before its first step.

    Raises:
        ConfigError: the folder exists.
        DataError: a file of the data is not there.
        DistributedError: another machine does not see it.
    """
    _ = data.sha256  # looks every file up: one that is missing leaves no run behind
    folder = write_run_folder(name, config, data, accelerator, verb=verb)
    plain = {
        key: value if _is_plain(value) else str(value) for key, value in to_mapping(config).items()
    }
    accelerator.init_trackers("ssl_lt", config={**plain, "run": folder.path.name})
    return folder


def write_run_folder(
    name: Path, config: Any, data: Data, accelerator: Accelerator, *, verb: str
) -> RunFolder:
    """Makes the folder and writes what the run is.

    Raises:
        ConfigError: the folder exists.
        DistributedError: another machine does not see it.
    """
    name = shared_path(name)
    accelerator.wait_for_everyone()  # until each rank has seen that there is no such folder
    if accelerator.is_main_process:
        with new_run_folder(name) as folder:
            write_split(folder.split, data.split)
            if data.options.test_split is not None:
                write_split(folder.test_split, read_split(data.options.test_split))
            if data.options.bad_images == "skip":
                write_bad_images(folder.bad_images, data.bad_images)
            command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
            write_config(folder.config, config, verb=verb, command=command)
    accelerator.wait_for_everyone()
    _check_visible(RunFolder(name))
    return RunFolder(name)


def _check_visible(run: RunFolder) -> None:
    """Every process must see the folder that rank 0 has made, to go on from it some day.

    Raises:
        DistributedError: on all processes; names the first that does not see it.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not (visible := run.config.is_file()) and time.monotonic() < deadline:
        time.sleep(0.2)
    sees = gather_objects(visible)
    if not all(sees):
        if rank() == 0:
            shutil.rmtree(run.path)  # made a moment ago, and nothing is trained in it
        raise DistributedError(
            f"{run.path}: was made by process 0, and process {sees.index(False)} does not see it: "
            "give a --run-dir on a disk that all machines share"
        )


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str | bool)
