"""The processes that train together, and what Accelerate makes of them."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import ProjectConfiguration

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.precision import resolve_precision
from ssl_lt.engine.plan import FitOptions
from ssl_lt.runs.life.failure import wait_for_all

# What `accelerate launch` exports for the engines that take backward pass or optimiser step out of
# the loop's hands; see docs/many_machines.md.
_ENGINES = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "parallelism_config",
}
_ACCUMULATION = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"


def join_processes(timeout_seconds: int = FitOptions.dist_timeout) -> PartialState:
    """This process among those that a launcher started; the first call waits for the others.

    Left to itself, Accelerate 1.15 takes each of several processes on CPUs for the only one.

    Args:
        timeout_seconds: how long anything that they do together may take; the first call counts.

    Raises:
        ConfigError: the launcher asks for an engine that is not supported.
        DistributedError: another process has failed before it came here.
    """
    _check_engine()
    if not torch.distributed.is_initialized():
        wait_for_all(timeout_seconds)
    timeout = timedelta(seconds=timeout_seconds)
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=timeout)
    if state.distributed_type == "XLA":
        raise ConfigError("distributed_type: XLA is not supported, only CPUs and GPUs are")
    return state


def leave_processes() -> None:
    """Ends what `join_processes` began, after the last run of this process."""
    if torch.distributed.is_initialized():
        PartialState().destroy_process_group()


def build_accelerator(fit: FitOptions, folder: Path) -> Accelerator:
    """Devices, processes, precision and trackers.

    Raises:
        ConfigError: a tracker that is not installed (Accelerate would leave it out silently), or
            an engine that is not supported.
    """
    from accelerate.utils import is_tensorboard_available, is_wandb_available

    installed = {"tensorboard": is_tensorboard_available, "wandb": is_wandb_available}
    for tracker in fit.trackers:
        if not installed[tracker]():
            raise ConfigError(f"--trackers: {tracker} is not installed: pip install {tracker}")
    device = join_processes(fit.dist_timeout).device  # decides what `auto` means
    AcceleratorState._reset_state()  # of an earlier run, which may have had another precision
    return Accelerator(
        mixed_precision=resolve_precision(fit.mixed_precision, device),
        # Memories and running statistics are equal on all ranks by construction.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        log_with=list(fit.trackers) or None,
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder)),
    )


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() in ("true", "1")


def _check_engine() -> None:
    """Before the processes join, where Accelerate fails by itself if an engine is not installed.

    Raises:
        ConfigError: names the engine.
    """
    for variable, engine in _ENGINES.items():
        if _is_on(variable):
            raise ConfigError(
                f"{engine}, which the launcher's configuration asks for, is not supported, DDP is; "
                "configs/accelerate/ has launch files"
            )
    steps = os.environ.get(_ACCUMULATION, "1")
    if steps != "1":  # Accelerate would divide every loss by it once more
        raise ConfigError(
            f"gradient_accumulation_steps {steps} of the launcher: give --accumulate-steps instead"
        )
