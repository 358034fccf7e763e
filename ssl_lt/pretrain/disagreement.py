"""How far apart the two branches see each sample: a guess at which ones are rare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_lt.core.memory import SampleMemory
from ssl_lt.core.processes.distributed import gather_rows
from ssl_lt.pretrain.two_views import PairStep, Plugin


class Disagreement(Plugin):
    """Remembers `1 - cos(z1, z2)` of each sample's last pair; adds nothing to the loss.

    In SDCLR `z1` is the dense and `z2` the pruned branch, and what pruning changes most are the
    samples that the network has hardly learned (arXiv:2106.02990, section 3.2).

    Args:
        num_samples: N, size of the training set.
    """

    def __init__(self, num_samples: int) -> None:
        super().__init__()
        unseen = torch.full((num_samples,), torch.nan)
        self.memory = SampleMemory("disagreement", {"score": unseen}, per_sample=["score"])

    def observe(self, step: PairStep) -> None:
        """Writes this step's scores, of all ranks."""
        scores = 1 - F.cosine_similarity(step.z1, step.z2)
        table = self.memory.tables["score"]
        table[gather_rows(step.index)] = gather_rows(scores).to(table.dtype)

    def memories(self) -> Sequence[SampleMemory]:
        """The table."""
        return (self.memory,)

    def scores(self) -> Mapping[str, Tensor]:
        """`disagreement`: (N,) in [0, 2], NaN for a sample that no step has seen yet."""
        return {"disagreement": self.memory.tables["score"]}
