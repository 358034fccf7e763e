"""State a method keeps for each sample of the training set.

Not a module buffer: DDP broadcasts buffers from rank 0 and would overwrite the other ranks. A
memory is fed with gathered rows, so it is the same on every rank, and is saved with the
checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class SampleMemory:
    """Named tensors that belong to the samples, not to the weights.

    Args:
        name: unique in a task; prefixes the tensors in the checkpoint.
        tables: name -> tensor; rows are samples where the first dimension is N, but scalars and
            per-class tables may sit beside them.
    """

    def __init__(self, name: str, tables: Mapping[str, Tensor]) -> None:
        self.name = name
        self.tables: dict[str, Tensor] = dict(tables)

    def to(self, device: torch.device) -> None:
        """Moves every table."""
        self.tables = {key: table.to(device) for key, table in self.tables.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """The tables, under their names."""
        return dict(self.tables)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over saved tables.

        Raises:
            ValueError: other names or shapes than this memory has.
        """
        for key, table in self.tables.items():
            if key not in state or state[key].shape != table.shape:
                found = tuple(state[key].shape) if key in state else "missing"
                raise ValueError(
                    f"memory {self.name}.{key}: {found}, expected {tuple(table.shape)}"
                )
        self.tables = {
            key: state[key].to(table.device, table.dtype) for key, table in self.tables.items()
        }
