"""Where weights, gradients and optimiser state lie: whole (DDP) or shared out (FSDP, ZeRO)."""

from __future__ import annotations

import warnings

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ssl_lt.core.distributed import world_size
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.task import TrainTask
from ssl_lt.engine.optim import OptimOptions, build_optimizer
from ssl_lt.engine.plan import FitOptions, Plan
from ssl_lt.engine.sharding import Sharding, check_shardable, is_sharded, own_rows, shard
from ssl_lt.engine.zero import AnyOptimizer, Zero, ZeroModel, ZeroOptimizer, check_zero


def check_sharing(
    task: TrainTask, sharing: Sharding | Zero | None, optim: OptimOptions, fit: FitOptions
) -> None:
    """Raises ConfigError where a task or a flag does not go with how state is shared out."""
    if sharing is None:
        return
    if fit.compile:
        raise ConfigError(
            f"--compile: not with {sharing}, which the launcher's configuration asks for"
        )
    if isinstance(sharing, Sharding):
        check_shardable(task, sharing)
    else:
        check_zero(optim)


def parallel(
    task: TrainTask, plan: Plan, accelerator: Accelerator
) -> tuple[nn.Module, AnyOptimizer]:
    """The module whose forward is the step, with autocast, and the optimiser of its weights."""
    # What Accelerate itself makes of FSDP and DeepSpeed has weights in bf16 where DDP has autocast,
    # and steps before gradients are checked. "Evaluation" has it add autocast and nothing else.
    with warnings.catch_warnings():
        # It proposes a setting under which buffers are sent when training starts; ours are equal.
        warnings.filterwarnings("ignore", message="`broadcast_buffers`", category=FutureWarning)
        model = accelerator.prepare_model(task, evaluation_mode=plan.sharing is not None)
    sharing = plan.sharing if world_size() > 1 else None
    if isinstance(sharing, Sharding):
        shard(task, accelerator.device, sharing)
    optimizer = build_optimizer(task, plan.optim, lr_scale=plan.lr_scale)
    if not isinstance(sharing, Zero):
        return model, optimizer
    model = ZeroModel(task, optimizer, sharing, clip_grad_norm=plan.optim.clip_grad_norm)
    return model, model.optimizer


def is_shared_out(task: TrainTask, optimizer: AnyOptimizer) -> bool:
    """Whether no process can save the state alone."""
    return is_sharded(task) or isinstance(optimizer, ZeroOptimizer)


def gradient_norm(task: TrainTask, optimizer: AnyOptimizer) -> Tensor:
    """Scalar norm of all gradients together; where they are shared out, all processes must call."""
    if isinstance(optimizer, ZeroOptimizer):
        return optimizer.norm()
    gradients = [own_rows(p.grad) for p in task.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if not is_sharded(task):
        return norm
    square = norm.square()
    torch.distributed.all_reduce(square)
    return square.sqrt()
