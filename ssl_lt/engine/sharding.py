"""A task whose weights, gradients and optimiser state are shared out over the processes: FSDP 2.

Between two steps each process holds its rows of every weight, as a `DTensor`. A forward or backward
pass fetches the whole weights of a block, and of what is in no block, for as long as it needs them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ssl_lt.core.distributed import rank, world_size
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.task import TrainTask

# Where `fully_shard` leaves its marks: the first two on every module, the others on the root and
# the blocks alone, where it also keeps its state under names of this beginning.
_MARKS = (
    "_parameters", "_load_state_dict_post_hooks",
    "_forward_hooks", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs",
)  # fmt: skip
_STATE = "__composable_api"


@dataclass(frozen=True)
class Sharding:
    """What the launcher says of FSDP 2.

    Attributes:
        reshard_after_forward: a block's weights are given up between its two passes; otherwise
            after both.
        block_classes: names of the classes of the backbone's blocks; none: as `blocks` finds them.
    """

    reshard_after_forward: bool = True
    block_classes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "weights, gradients and optimiser state in shards (FSDP 2)"


def check_shardable(task: TrainTask, sharding: Sharding) -> None:
    """Raises ConfigError where a task cannot be trained in shards, or has no block of a class."""
    if task.needs_whole_weights:
        raise ConfigError(
            f"FSDP, which the launcher's configuration asks for: {task.needs_whole_weights}; use "
            "one that leaves each process the whole network (DDP), such as "
            "configs/accelerate/8_gpus.yaml"
        )
    if sharding.block_classes and not blocks(task.backbone, sharding):
        raise ConfigError(
            "fsdp_transformer_layer_cls_to_wrap: the backbone has no module of class "
            f"{' or '.join(sharding.block_classes)}"
        )


def blocks(backbone: nn.Module, sharding: Sharding) -> list[nn.Module]:
    """The parts of a backbone whose weights are fetched together.

    What its `Sequential`s and lists hold (timm's blocks and stages) but for single layers.
    """
    if names := sharding.block_classes:
        return [module for module in backbone.modules() if type(module).__name__ in names]
    lists = [m for m in backbone.children() if isinstance(m, nn.Sequential | nn.ModuleList)]
    found = [block for held in lists for block in held.children()]
    return [
        block
        for block in found
        if any(True for _ in block.children()) and any(True for _ in block.parameters())
    ]


def shard(task: TrainTask, device: torch.device, sharding: Sharding) -> None:
    """Shares out the weights of a task over all processes, in place."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # Weights in another format are refused. Feature maps follow that of the images.
    task.to(memory_format=torch.contiguous_format)
    task.backbone.register_forward_pre_hook(_channels_last)
    mesh = init_device_mesh(device.type, (world_size(),))
    for block in reversed(blocks(task.backbone, sharding)):  # what is within another comes first
        fully_shard(block, mesh=mesh, reshard_after_forward=sharding.reshard_after_forward)
    # The backward pass begins with what is in no block, so that it stays.
    fully_shard(task, mesh=mesh, reshard_after_forward=False)


def _channels_last(module: nn.Module, images: tuple[Tensor]) -> Tensor:
    return images[0].contiguous(memory_format=torch.channels_last)


def is_sharded(module: nn.Module) -> bool:
    """True where this process holds only its share of the weights."""
    return any(_is_shard(parameter) for parameter in module.parameters())


def _is_shard(tensor: Tensor) -> bool:
    # A plain tensor needs no import of half a second.
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """All rows of a tensor, on every process; all must call it. One that is whole stays itself.

    Not `DTensor.full_tensor`: what a `DTensor` sends goes through torch's functional collectives,
    and two of them under way at once corrupt the heap of a process on gloo (torch 2.14: a loop of
    an all-reduce and an all-gather alone ends within a minute in "malloc(): unaligned tcache").
    """
    if not _is_shard(tensor):
        return tensor
    own, rows = own_rows(tensor), -(-len(tensor) // world_size())
    padded = own.new_zeros(rows, *tensor.shape[1:])
    padded[: len(own)] = own
    out = own.new_empty(world_size() * rows, *tensor.shape[1:])
    torch.distributed.all_gather_single(out, padded)
    return out[: len(tensor)].clone() if len(out) > len(tensor) else out


def own_rows(tensor: Tensor) -> Tensor:
    """This process's rows of a tensor; of one that is whole, all."""
    rows: Tensor = tensor.to_local() if _is_shard(tensor) else tensor  # type: ignore[attr-defined]
    return rows


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, for a checkpoint; all processes must call it.

    What had to be fetched is in main memory on rank 0, and has no content elsewhere.
    """
    device = "cpu" if rank() == 0 else "meta"
    return {
        name: whole(tensor).to(device) if _is_shard(tensor) else tensor
        for name, tensor in tensors.items()
    }


def laid_like(tensor: Tensor, own: Tensor) -> Tensor:
    """A whole tensor shared out as one of the same shape is, without its values; each for itself.

    It takes the dense memory format of `own`, too: sums over it keep their order.
    """
    if not _is_shard(own):
        return torch.empty_like(own, dtype=tensor.dtype).copy_(tensor)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(own, DTensor)
    return distribute_tensor(
        tensor.to(own.device), own.device_mesh, own.placements, src_data_rank=None
    )


@contextmanager
def whole_weights(task: TrainTask) -> Iterator[None]:
    """A block in which a sharded task is a plain one; all processes must enter it.

    Its modules may then be called, read and copied at will, and by one process alone. They may
    not be changed: weights that are written are lost at the end. A task that is whole stays so.
    """
    held = _make_whole(task)
    try:
        yield
    finally:
        for module, (kind, attributes) in held.items():
            module.__class__ = kind
            vars(module).update(attributes)


def make_whole(task: TrainTask) -> None:
    """`whole_weights` for good, after training."""
    _make_whole(task)


def _make_whole(task: TrainTask) -> dict[nn.Module, tuple[type[nn.Module], dict[str, Any]]]:
    """Takes away what `fully_shard` has put on modules: class, hooks, state, sharded weights.

    Returns:
        It, by module.
    """
    if not is_sharded(task):
        return {}
    from torch.distributed.fsdp import FSDPModule

    held = {}
    weights: dict[Tensor, nn.Parameter] = {}  # one that two modules share stays one
    for module in task.modules():
        is_unit = isinstance(module, FSDPModule)
        names = [*_MARKS, *(name for name in vars(module) if name.startswith(_STATE))]
        attributes = {name: vars(module).pop(name) for name in (names if is_unit else _MARKS[:2])}
        held[module] = type(module), attributes
        for parameter in attributes["_parameters"].values():
            if parameter is not None and parameter not in weights:
                rows = whole(parameter.detach())
                weights[parameter] = nn.Parameter(rows, requires_grad=parameter.requires_grad)
        vars(module).update({name: OrderedDict() for name in attributes if name in _MARKS})
        for name, parameter in attributes["_parameters"].items():
            module._parameters[name] = None if parameter is None else weights[parameter]
        if is_unit:
            module.__class__ = type(module).__bases__[1]
    return held
