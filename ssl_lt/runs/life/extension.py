"""`--extend`: a new pretraining run that goes on from the whole state of a finished one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.errors import CheckpointError, ConfigError, shortened
from ssl_lt.core.task import TrainTask
from ssl_lt.data.dataset import Data
from ssl_lt.data.splits.images import matched_rows, read_images
from ssl_lt.data.splits.split import read_split
from ssl_lt.engine.checkpoints.checkpoint import Checkpoint, newest_checkpoint, save_checkpoint
from ssl_lt.engine.checkpoints.run_folder import RunFolder, open_run_folder
from ssl_lt.engine.checkpoints.state import check_tensors, surroundings
from ssl_lt.engine.plan import FitSettings
from ssl_lt.engine.schedule import lr_multiplier
from ssl_lt.pretrain.harmonization import warmup_end
from ssl_lt.runs.config.pretrain import PretrainConfig
from ssl_lt.runs.config.schema import differences, to_mapping
from ssl_lt.runs.config.stored import read_config, stored_pretraining
from ssl_lt.runs.life.find import newest_run
from ssl_lt.runs.life.place import Moved, moved_options, source_at

# What the state is of; the end of a name stands for all that begin with it.
_KEPT = (
    "method", "plugins", "backbone", "width", "model-kwargs", "projector.", "freeze-patch-embed",
    "optimizer", "ema", "mixed-precision", "seed", "bcl.slots", "gh.clusters", "gh.prior",
)  # fmt: skip


@dataclass(frozen=True)
class Earlier:
    """A finished pretraining run that another one goes on from.

    Attributes:
        folder: of the run.
        config: of the run.
        checkpoint: its last one.
        planned_epochs: of it and the runs before it.
        epochs: of those, that were trained; fewer where it stopped early.
    """

    folder: RunFolder
    config: PretrainConfig
    checkpoint: Checkpoint
    planned_epochs: int
    epochs: int

    @property
    def data_sha256(self) -> str:
        """Of its images, see `Data.sha256`."""
        return str(self.checkpoint.state["identity"]["data_sha256"])

    def facts(self, data: Data) -> dict[str, str]:
        """What is recorded of it in a run on this data, as strings."""
        return {
            "run": str(self.folder.path.resolve()),
            "epochs": str(self.epochs),
            "data-sha256": self.data_sha256,
            "data-sha256-now": data.sha256,
        }


def earlier_run(name: str) -> Earlier:
    """The run that `--extend` names: a folder, or "auto" for the newest pretraining run.

    Raises:
        ConfigError: there is no such run, it does not pretrain or is not finished.
        CheckpointError: its last checkpoint is damaged or missing.
    """
    try:
        found = newest_run(["pretrain"]) if name == "auto" else open_run_folder(Path(name))
    except ConfigError as error:
        raise ConfigError(f"--extend: {error}") from error
    if found is None:
        raise ConfigError("--extend: no pretrain run under runs/")
    stored = read_config(found.config)
    if stored.verb != "pretrain":
        raise ConfigError(f"--extend: {found.path} is a {stored.verb} run, not a pretrain run")
    if not found.is_finished:
        raise ConfigError(f"--extend: {found.path} is not finished: --resume it first")
    checkpoint = newest_checkpoint(found.checkpoints, warn=_refuse)
    if checkpoint is None:
        raise CheckpointError(f"--extend: {found.path} has no checkpoint")
    config = stored_pretraining(found.config)
    planned = stored.epochs_before + config.fit.num_epochs
    epochs = checkpoint.step * planned // int(checkpoint.state["total_steps"])
    return Earlier(found, config, checkpoint, planned, epochs)


def carried_over(earlier: Earlier, moved: Moved) -> PretrainConfig:
    """The configuration of a run that goes on, where nothing else is asked for.

    Args:
        earlier: the run.
        moved: where its images are now, or other images: these are chosen anew, and seen as the run
            has seen its own.
    """
    config, run = earlier.config, earlier.folder
    knn_data = None if config.knn_data is None else source_at(run, config.knn_data)
    options = config.options
    if "gh" in config.plugins:  # a term that has begun does not end again
        warmup = warmup_end(options.gh, earlier.planned_epochs)
        options = replace(options, gh=replace(options.gh, warmup_epochs=warmup))
    return replace(
        config,
        extend=str(earlier.folder.path),
        data=moved_options(run, moved),
        options=options,
        knn_data=knn_data,
        run=replace(config.run, run_dir=None),
    )


def check_kept(earlier: Earlier, config: PretrainConfig) -> None:
    """Refuses what the state does not fit.

    Raises:
        ConfigError: names the options that differ, with both values.
    """
    before, now = (
        {
            name: value
            for name, value in to_mapping(one).items()
            if any(name == kept or (kept[-1] == "." and name.startswith(kept)) for kept in _KEPT)
        }
        for one in (earlier.config, config)
    )
    if changed := differences(before, now):
        raise ConfigError(
            f"--extend {earlier.folder.path}: {shortened(changed)}: an extended run keeps its "
            "method and network (--init-from takes the backbone alone)"
        )


@dataclass(frozen=True)
class Start:
    """The state that a training begins with.

    Attributes:
        earlier: the run that it is of.
        memories: of the samples of the new run, as a checkpoint names them.
        note: a line for the user.
    """

    earlier: Earlier
    memories: Mapping[str, torch.Tensor]
    note: str

    def save(
        self,
        folder: RunFolder,
        settings: FitSettings,
        *,
        steps_per_epoch: int,
        accelerator: Accelerator,
    ) -> None:
        """Writes the first checkpoint of the new run, and the line of its log up to there.

        Args:
            folder: of the new run.
            settings: of it, with all epochs.
            steps_per_epoch: optimiser steps; the earlier epochs count as if they had as many.
            accelerator: of the new run; the first process writes.
        """
        step = self.earlier.epochs * steps_per_epoch
        total_steps = settings.fit.num_epochs * steps_per_epoch
        if accelerator.is_main_process:
            was = self.earlier.checkpoint
            rate = settings.optim.peak_lr * lr_multiplier(
                step - 1,
                settings.schedule,
                total_steps=total_steps,
                steps_per_epoch=steps_per_epoch,
            )
            state = {
                **was.state,
                "identity": asdict(settings.identity),
                "summed_steps": 0,
                "total_steps": total_steps,
                **surroundings(settings.fit, accelerator),
                "choice": None,
            }
            tensors = {**was.tensors, "memory": self.memories, "sums": {}}
            # `trim_lines` keeps one line of a checkpoint's own step.
            line = {"step": step, "epoch": self.earlier.epochs - 1, "lr": rate}
            # The checkpoint first: a run that has none would begin without what it goes on from.
            save_checkpoint(folder.checkpoints, Checkpoint(step, state, tensors), keep=2)
            write_text_atomically(folder.metrics, json.dumps(line) + "\n")
        accelerator.wait_for_everyone()


def start_of(earlier: Earlier, task: TrainTask, data: Data, *, more_epochs: int) -> Start:
    """What a new run takes over.

    Raises:
        CheckpointError: the network has other tensors.
    """
    saved = earlier.checkpoint.tensors
    check_tensors(saved["model"], task.state_dict(), of="model")
    told = (
        f"extending {earlier.folder.path}: {earlier.epochs} epochs so far, {more_epochs} more; "
        f"the schedule is that of {earlier.epochs + more_epochs} epochs"
    )
    if earlier.data_sha256 == data.sha256:
        return Start(earlier, saved["memory"], f"{told}; the same images")
    rows = _rows(earlier, data)
    number, kept = len(rows), int((rows >= 0).sum())
    memories: dict[str, torch.Tensor] = {}
    has_samples = False
    for memory in task.memories():
        start = f"{memory.name}."
        own = {k.removeprefix(start): v for k, v in saved["memory"].items() if k.startswith(start)}
        memories |= {f"{start}{k}": v for k, v in memory.of_others(own, rows).items()}
        has_samples = has_samples or bool(memory.per_sample)
    told += f"; {kept:,} of {number:,} images were trained on before"
    if has_samples:
        told += ", whose memory is kept" if kept else ": the memory of samples begins anew"
    return Start(earlier, memories, told)


def _rows(earlier: Earlier, data: Data) -> torch.Tensor:
    """(N,) the row of each image among those of the earlier run, by name and size; or -1."""
    was = read_images(earlier.folder.images)
    now = None if was is None else data.images
    if was is None or now is None:
        return torch.full((len(data.train),), -1)
    rows = read_split(earlier.folder.split).indices
    return torch.from_numpy(matched_rows(was.trained(rows), now.trained(data.split.indices)))


def _refuse(line: str) -> None:
    raise CheckpointError(f"--extend: {line.removeprefix('warning: ')}")
