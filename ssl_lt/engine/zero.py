"""A task whose gradients and optimiser state are shared out over the processes: DeepSpeed's ZeRO.

Weights stay whole on each process. Of Accelerate only the configuration is used: what it makes of
DeepSpeed takes the step within the backward pass, before gradients are checked, and casts weights
to bf16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ssl_lt.core.distributed import rank, world_size
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.task import TrainTask
from ssl_lt.core.types import Batch, StepOutput
from ssl_lt.engine.optim import OptimOptions

BUCKET = 25_000_000  # elements: 100 MB, or one weight where that is larger


@dataclass(frozen=True)
class Zero:
    """What the launcher says of DeepSpeed.

    Attributes:
        stage: 1 shares out the optimiser state, 2 gradients too.
    """

    stage: int

    def __str__(self) -> str:
        gradients = "gradients and " if self.stage == 2 else ""
        return f"{gradients}optimiser state in shards (ZeRO {self.stage})"


def check_zero(optim: OptimOptions) -> None:
    """Raises ConfigError where ZeRO would train otherwise than one process, or not at all."""
    if optim.optimizer == "lars":
        raise ConfigError(
            "--optimizer lars: ZeRO cuts weights anywhere, and lars needs the norm of each; "
            "give sgd or adamw"
        )
    if find_spec("deepspeed") is None:
        raise ConfigError("DeepSpeed is not installed: pip install deepspeed")


class ZeroModel(nn.Module):
    """The module whose forward is the step, as DDP's wrapper is elsewhere."""

    def __init__(
        self,
        task: TrainTask,
        optimizer: torch.optim.Optimizer,
        zero: Zero,
        *,
        clip_grad_norm: float | None,
    ) -> None:
        """Takes the weights out of the optimiser's groups; see `ZeroOptimizer`.

        Raises:
            ConfigError: this version of DeepSpeed lays weights out otherwise.
        """
        super().__init__()
        import deepspeed

        # On CPUs it would be compiled at the start of a run; gloo does as well.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        task.to(memory_format=torch.contiguous_format)  # others are refused
        groups = [list(group["params"]) for group in optimizer.param_groups]
        self.engine = deepspeed.initialize(
            model=_Step(task),
            optimizer=optimizer,
            config={
                # For statistics of its own: the loop sizes batches and divides the loss.
                "train_batch_size": world_size(),
                "gradient_accumulation_steps": 1,
                "gradient_clipping": clip_grad_norm or 0.0,
                "zero_allow_untested_optimizer": True,
                # As it comes, each backward pass takes 2 GB for gradients on their way.
                "zero_optimization": {"stage": zero.stage, "reduce_bucket_size": BUCKET},
            },
        )[0]
        self.optimizer = ZeroOptimizer(self.engine, optimizer, groups)

    def forward(self, batch: Batch) -> StepOutput:
        """The step of the task."""
        output: StepOutput = self.engine(batch)[1]
        return output

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Around a batch to which others will be added."""
        self.engine.set_gradient_accumulation_boundary(False)
        yield
        self.engine.set_gradient_accumulation_boundary(True)


class _Step(nn.Module):
    """The task's step; DeepSpeed finds the loss in a tuple, and not in a dataclass."""

    def __init__(self, task: TrainTask) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: Batch) -> tuple[Tensor, StepOutput]:
        output: StepOutput = self.task(batch)
        return output.loss, output


class ZeroOptimizer:
    """What the loop and a checkpoint ask of an optimiser, for whole weights.

    DeepSpeed has put one vector into each group of the optimiser: this process's slice of the
    group's weights, flat and one after another.
    """

    def __init__(
        self, engine: Any, optimizer: torch.optim.Optimizer, groups: Sequence[list[nn.Parameter]]
    ) -> None:
        self.engine, self.optimizer = engine, optimizer
        self.param_groups = [
            {**group, "params": weights}
            for group, weights in zip(optimizer.param_groups, groups, strict=True)
        ]
        for weights, own in self._slices():
            if not torch.equal(own, _slice(weights, own)):
                raise ConfigError("DeepSpeed: this version lays weights out in another order")

    def norm(self) -> Tensor:
        """Of all gradients, before they are clipped; infinite where one is not finite."""
        norm: Tensor = self.engine.optimizer.scaled_global_norm()
        return norm

    def step(self) -> None:
        """Clips, updates, and gives every process the weights of all."""
        for own, group in zip(self.optimizer.param_groups, self.param_groups, strict=True):
            own["lr"] = group["lr"]
        self.engine.step()

    def zero_grad(self, *, set_to_none: bool) -> None:
        """`step` has done it."""

    def state_dict(self) -> dict[str, Any]:
        """As a plain optimiser's; all processes must call it, and what rank 0 gets is whole."""
        state: dict[int, dict[str, Tensor]] = {}
        device = "cpu" if rank() == 0 else "meta"
        for weights, own in self._slices():
            first = len(state)
            state |= {first + i: {} for i in range(len(weights))}
            for name, value in self.optimizer.state[own].items():
                wholes = [value] * len(weights)  # AdamW's count of steps
                if value.shape == own.shape:
                    flat = own.new_empty(world_size() * len(own))
                    torch.distributed.all_gather_single(flat, value)
                    wholes = _split(flat, weights)
                for index, whole in enumerate(wholes, start=first):
                    state[index][name] = whole.to(device, copy=True)  # of its own memory
        return {"state": state, "param_groups": self.param_groups}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Takes up a state, and the weights that the task has now."""
        first = 0
        for weights, own in self._slices():
            own.data.copy_(_slice(weights, own))
            states = [saved["state"].get(first + i, {}) for i in range(len(weights))]
            for name, value in states[0].items():
                whole = [state[name] for state in states]
                self.optimizer.state[own][name] = (
                    _slice(whole, own) if value.ndim else value.clone()
                )
            first += len(weights)

    def _slices(self) -> Iterator[tuple[list[nn.Parameter], Tensor]]:
        """Of each group: its weights, and this process's slice of them."""
        for group, flat in zip(self.param_groups, self.optimizer.param_groups, strict=True):
            yield group["params"], flat["params"][0]


AnyOptimizer = torch.optim.Optimizer | ZeroOptimizer


def _slice(tensors: Sequence[Tensor], own: Tensor) -> Tensor:
    """This process's part of some tensors, flat and one after another; zeros follow the last."""
    whole = own.new_zeros(world_size() * len(own))
    flat = torch.cat([tensor.detach().reshape(-1).to(own) for tensor in tensors])
    whole[: len(flat)] = flat
    return whole[rank() * len(own) :][: len(own)].clone()


def _split(whole: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of `_slice` over all processes."""
    sizes = [weight.numel() for weight in weights]
    parts = torch.split(whole[: sum(sizes)], sizes)
    return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]
