"""`finetune.py`: train a classifier, or several to compare."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_lt.cli.config.parse import split_arguments
from ssl_lt.data.dataset import check_labels, open_data
from ssl_lt.engine.checkpoints.lock import run_lock
from ssl_lt.engine.checkpoints.run_folder import RunFolder, check_is_new
from ssl_lt.runs.config.finetune import read_config
from ssl_lt.runs.finetune import run
from ssl_lt.runs.life.find import new_run_path, take_resume
from ssl_lt.runs.life.mirrored import mirrored
from ssl_lt.runs.life.processes import build_accelerator
from ssl_lt.runs.life.same_start import check_configuration
from ssl_lt.runs.series import SERIES, run_series


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    words = split_arguments(arguments)
    resumed = take_resume(words, "finetune", SERIES)
    config, origin = read_config(words, resumed)
    if resumed is not None and resumed.is_finished:
        with mirrored(resumed, config.run.mirror):  # what could not be copied at the end
            print(f"{resumed.path} is finished: nothing to do")
        return 0
    name = config.run.run_dir or new_run_path("finetune", config.loss, config.data.data)
    if resumed is None:
        check_is_new(name)  # before minutes are spent on data
    accelerator = build_accelerator(config.fit, name)
    check_configuration(config, resumed)
    with run_lock(resumed), mirrored(resumed or RunFolder(name), config.run.mirror):
        data = open_data(config.data, stored=None if resumed is None else resumed.split_files)
        check_labels(data, "fine-tuning")
        if config.series.asked:
            run_series(config, data, name=name, resumed=resumed, accelerator=accelerator)
            return 0
        folder = run(config, data, origin, name=name, resumed=resumed, accelerator=accelerator)
    accelerator.print(f"next: evaluate.py --run {folder.path}")
    return 0
