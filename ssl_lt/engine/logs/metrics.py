"""Metrics: sums on the device, means in a file, the same file for a run that was resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ssl_lt.core.disk.files import sync_path
from ssl_lt.core.errors import DiskError
from ssl_lt.core.processes.distributed import mean_over_ranks
from ssl_lt.engine.checkpoints.run_folder import RunFolder, append_line, trim_lines


class MetricsLog:
    """`metrics.jsonl`, `timing.jsonl` and the trackers.

    Attributes:
        sums: name -> scalar on the device, added up since the last line.
        summed_steps: how many steps they hold.
    """

    def __init__(self, folder: RunFolder, accelerator: Accelerator) -> None:
        self._folder, self._accelerator = folder, accelerator
        self.sums: dict[str, Tensor] = {}
        self.summed_steps = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Adds a step to the means of the next line; nothing leaves the device."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.float()
        self.summed_steps += 1

    def flush(self, line: dict[str, Any]) -> dict[str, Any]:
        """Completes and writes a line: the one place where the host waits for the device."""
        names = sorted(self.sums)
        means = mean_over_ranks(torch.stack([self.sums[n] for n in names]) / self.summed_steps)
        written = self.write(line | dict(zip(names, means.tolist(), strict=True)))
        # Only now: where the line could not be written, a checkpoint still holds its sums.
        self.sums, self.summed_steps = {}, 0
        return written

    def write(self, line: dict[str, Any]) -> dict[str, Any]:
        """Writes a line as it is; `step` must be in it."""
        if self._accelerator.is_main_process:
            append_line(self._folder.metrics, line)
        self._accelerator.log({k: v for k, v in line.items() if k != "step"}, step=line["step"])
        return line

    def write_timing(self, line: dict[str, Any]) -> None:
        """Seconds and images/s, which differ between a resumed run and one left alone."""
        if self._accelerator.is_main_process:
            append_line(self._folder.timing, line)

    def sync(self) -> None:
        """Waits until the lines are on the disk: a checkpoint never knows more steps than they do.

        Raises:
            DiskError: names the file.
        """
        path = self._folder.metrics
        try:
            if path.exists():
                sync_path(path)
        except OSError as error:
            raise DiskError(f"{path}: not written to the disk: {error.strerror}") from error

    def restore(self, sums: Mapping[str, Tensor], summed_steps: int, *, step: int) -> None:
        """Goes back to where a checkpoint was written; later lines are dropped."""
        device = self._accelerator.device
        self.sums = {name: value.to(device) for name, value in sums.items()}
        self.summed_steps = summed_steps
        if self._accelerator.is_main_process:
            trim_lines(self._folder.metrics, last_step=step)
            trim_lines(self._folder.timing, last_step=step)
