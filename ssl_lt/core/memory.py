"""State a method keeps for each sample of the training set.

Not a module buffer: DDP broadcasts buffers from rank 0 and would overwrite the other ranks. A
memory is fed with gathered rows, so it is the same on every rank, and is saved with the
checkpoint.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor


class SampleMemory:
    """Named tensors that belong to the samples, not to the weights.

    Args:
        name: unique in a task; prefixes the tensors in the checkpoint.
        tables: name -> tensor.
        per_sample: names of those with a row a sample, for a run that goes on with other samples.
    """

    def __init__(
        self, name: str, tables: Mapping[str, Tensor], *, per_sample: Collection[str] = ()
    ) -> None:
        self.name = name
        self.tables: dict[str, Tensor] = dict(tables)
        self.per_sample = per_sample

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

    def of_others(self, state: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """Saved tables of other samples, as tables of the samples of this memory.

        Args:
            state: of a memory with the same tables for those samples.
            rows: (N,) int64, each sample's row there; -1: it keeps what it has here. So do all
                samples where a table has slots in place of rows.
        """
        known = rows >= 0
        found = {}
        for key, own in self.tables.items():
            found[key] = own.clone() if key in self.per_sample else state[key]
            if key in self.per_sample and len(own) == len(rows):
                found[key][known] = state[key][rows[known]].to(own.dtype)
        return found


def first_rows(index: Tensor) -> Tensor:
    """The first row of each row's sample, so that all rows of a sample write the same value.

    Args:
        index: (B,) int64, samples of a batch, in which one may come more than once.

    Returns:
        (B,) int64, rows of the batch.
    """
    ordered, order = index.sort(stable=True)
    return order[torch.searchsorted(ordered, index)]
