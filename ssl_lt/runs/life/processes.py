"""The processes that train together, and what Accelerate makes of them."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import DeepSpeedPlugin, ProjectConfiguration, patch_environment

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.precision import resolve_precision
from ssl_lt.engine.plan import FitOptions
from ssl_lt.engine.sharding import Sharding
from ssl_lt.engine.zero import Zero
from ssl_lt.runs.life.failure import wait_for_all

# What `accelerate launch` exports for the engines that take backward pass or optimiser step out of
# the loop's hands; see docs/many_machines.md.
_ENGINES = {
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "parallelism_config",
}
_ACCUMULATION = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"
_FSDP, _DEEPSPEED = "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"
_DEEPSPEED_SETTINGS = {
    "gradient_clipping": "auto",
    "offload_optimizer_device": "none",
    "offload_param_device": "none",
}
_FSDP_SWITCHES = ("offload_params", "activation_checkpointing")


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
    with _without_deepspeed():
        state = PartialState(cpu=not torch.accelerator.is_available(), timeout=timeout)
    if state.distributed_type == "XLA":
        raise ConfigError("distributed_type: XLA is not supported, only CPUs and GPUs are")
    return state


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
    with _without_deepspeed():
        return Accelerator(
            mixed_precision=resolve_precision(fit.mixed_precision, device),
            # Memories and running statistics are equal on all ranks by construction.
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
            log_with=list(fit.trackers) or None,
            project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder)),
        )


def _without_deepspeed() -> AbstractContextManager[None]:
    """A block in which Accelerate does not see DeepSpeed, which is our engine's to drive."""
    hidden: AbstractContextManager[None] = patch_environment(**{_DEEPSPEED: "false"})
    return hidden


def launcher_sharing() -> Sharding | Zero | None:
    """How the launcher's configuration has the state of a training shared out; None: not at all.

    Raises:
        ConfigError: FSDP 1, a stage of ZeRO or a setting that is not supported, or both engines.
    """
    if not _is_on(_FSDP):
        return _zero() if _is_on(_DEEPSPEED) else None
    if _is_on(_DEEPSPEED):
        raise ConfigError("FSDP and DeepSpeed: the launcher's configuration asks for both")
    return _sharding()


def _sharding() -> Sharding:
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ConfigError(
            "FSDP 1, which the launcher's configuration asks for, is not supported, FSDP 2 is: "
            "fsdp_version: 2, as in configs/accelerate/fsdp.yaml"
        )
    for switch in _FSDP_SWITCHES:
        if _is_on(f"FSDP_{switch.upper()}"):
            raise ConfigError(f"fsdp_{switch} of the launcher is not supported")
    policy = os.environ.get("FSDP_AUTO_WRAP_POLICY", "NO_WRAP").upper()
    if policy == "SIZE_BASED_WRAP":
        raise ConfigError(
            "fsdp_auto_wrap_policy of the launcher: SIZE_BASED_WRAP is not supported, "
            "TRANSFORMER_BASED_WRAP or none is"
        )
    if (ignored := os.environ.get("FSDP_IGNORED_MODULES", "None")) not in ("None", ""):
        raise ConfigError(f"fsdp_ignored_modules of the launcher: {ignored}: not supported")
    reshard = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower()
    if reshard not in ("true", "false"):
        raise ConfigError(f"fsdp_reshard_after_forward of the launcher: {reshard}: true or false")
    named = os.environ.get("FSDP_TRANSFORMER_CLS_TO_WRAP", "") if "TRANSFORMER" in policy else ""
    names = tuple(name.strip() for name in named.split(",") if name.strip())
    return Sharding(reshard_after_forward=reshard == "true", block_classes=names)


def _zero() -> Zero:
    if os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none") != "none":
        raise ConfigError("deepspeed_config_file of the launcher is not supported: give zero_stage")
    plugin = DeepSpeedPlugin()
    if plugin.zero_stage not in (1, 2):
        raise ConfigError(
            f"zero_stage {plugin.zero_stage} of the launcher is not supported, 1 and 2 are"
        )
    for name, left_alone in _DEEPSPEED_SETTINGS.items():
        if (value := getattr(plugin, name)) != left_alone:
            raise ConfigError(f"{name} {value} of the launcher's DeepSpeed is not supported")
    return Zero(plugin.zero_stage)


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
                f"{engine}, which the launcher's configuration asks for, is not supported: DDP, "
                "FSDP 2 and DeepSpeed's ZeRO are; configs/accelerate/ has launch files"
            )
    launcher_sharing()
    steps = os.environ.get(_ACCUMULATION, "1")
    if steps != "1":  # Accelerate would divide every loss by it once more
        raise ConfigError(
            f"gradient_accumulation_steps {steps} of the launcher: give --accumulate-steps instead"
        )
