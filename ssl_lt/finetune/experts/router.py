"""Expert assignment: as many experts for a picture as it needs (arXiv:2010.01809, section 3.3).

Experts are asked one after the other, and after each of them but the last a gate says whether to
ask the next. Gates are trained on frozen experts. The released code trains them on augmented
pictures; we take the features of the plain training pictures, which are computed once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lt.core.random import seed_of
from ssl_lt.core.sgd import cosine_rates, take_steps
from ssl_lt.models.expert_classifiers import ExpertClassifiers

_HIDDEN_DIM = 16
_NUM_LOGITS = 30


@dataclass(frozen=True)
class RouterOptions:
    """How gates are trained; the values are those of the released code.

    Attributes:
        epochs: over as many images as there are, drawn so that every class is equally frequent.
        batch_size: images a step.
        lr: peak learning rate, from which it falls along a cosine to 0.
        momentum: of SGD.
        positive_weight: of "ask the next", which is rarely right.
    """

    epochs: int = 5
    batch_size: int = 128
    lr: float = 0.01
    momentum: float = 0.9
    positive_weight: float = 100.0


def running_means(expert_logits: Tensor) -> Tensor:
    """(E, B, C): the e-th is the mean of the first e + 1 experts' logits (E, B, C)."""
    counts = torch.arange(1, len(expert_logits) + 1, device=expert_logits.device)
    return expert_logits.cumsum(dim=0) / counts[:, None, None]


def worth_asking(expert_logits: Tensor, labels: Tensor) -> Tensor:
    """What the gates should say: the experts so far are wrong, and with more of them right.

    Args:
        expert_logits: (E, B, C).
        labels: (B,) int64.

    Returns:
        (E - 1, B) bool.
    """
    right = running_means(expert_logits).argmax(dim=2) == labels
    right_later = right.flip(0).cumsum(dim=0).flip(0)[1:] > 0
    return ~right[:-1] & right_later


class ExpertRouter(nn.Module):
    """A gate for each expert but the last.

    It sees the expert's features, normalised and mapped to 16 numbers, and the largest logits, at
    most 30, of the experts so far.

    Args:
        num_experts: E.
        num_features: D, of one expert.
        num_classes: C.
    """

    def __init__(self, num_experts: int, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.num_logits = min(_NUM_LOGITS, num_classes)
        gates = range(num_experts - 1)
        self.hidden = nn.ModuleList(nn.Linear(num_features, _HIDDEN_DIM) for _ in gates)
        self.gates = nn.ModuleList(nn.Linear(_HIDDEN_DIM + self.num_logits, 1) for _ in gates)

    def forward(self, features: Tensor, expert_logits: Tensor) -> Tensor:
        """(E - 1, B) logits of asking the next, of (B, E * D) features and (E, B, C) logits."""
        largest = running_means(expert_logits).topk(self.num_logits, dim=2).values
        parts = features.chunk(len(expert_logits), dim=1)
        gate_logits = []
        for hidden, gate, x, logits in zip(self.hidden, self.gates, parts, largest, strict=False):
            seen = torch.cat([F.relu(hidden(F.normalize(x, dim=1))), logits], dim=1)
            gate_logits.append(gate(seen)[:, 0])
        return torch.stack(gate_logits)


def routed(expert_logits: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
    """Predictions of the experts that are asked.

    Args:
        expert_logits: (E, B, C).
        gates: (E - 1, B) logits; the next expert is asked where all gates before it are above 0.

    Returns:
        (B, C) mean logits of the experts asked, and (B,) int64 how many they are.
    """
    num_asked = 1 + (gates > 0).to(torch.int64).cumprod(dim=0).sum(dim=0)
    rows = torch.arange(expert_logits.shape[1], device=expert_logits.device)
    return running_means(expert_logits)[num_asked - 1, rows], num_asked


def train_router(
    classifier: ExpertClassifiers,
    features: Tensor,
    labels: Tensor,
    *,
    options: RouterOptions,
    seed: int,
) -> ExpertRouter:
    """Gates for frozen experts; the same on every process that is given the same rows.

    Args:
        classifier: the experts' heads.
        features: (N, E * D) of the training images.
        labels: (N,) int64.
        options: of the training.
        seed: of the initial weights and the order.

    Returns:
        The router, in evaluation mode, on the features' device.
    """
    with torch.no_grad():
        num_experts, _, num_classes = classifier.per_expert(features[:1]).shape
    generator = torch.Generator().manual_seed(seed_of(seed, 0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, 1))
        router = ExpertRouter(num_experts, features.shape[1] // num_experts, num_classes)
    router = router.to(features.device)
    optimizer = torch.optim.SGD(router.parameters(), lr=options.lr, momentum=options.momentum)
    steps = options.epochs * max(1, len(labels) // options.batch_size)
    positive_weight = torch.tensor(options.positive_weight, device=features.device)

    def loss(rows: Tensor) -> Tensor:
        with torch.no_grad():
            logits = classifier.per_expert(features[rows])
            wanted = worth_asking(logits, labels[rows]).to(logits.dtype)
        gates = router(features[rows], logits)
        return F.binary_cross_entropy_with_logits(gates, wanted, pos_weight=positive_weight)

    batches = (balanced_rows(labels, options.batch_size, generator) for _ in range(steps))
    take_steps(optimizer, loss, zip(cosine_rates(options.lr, steps), batches, strict=True))
    return router.eval()


def balanced_rows(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count,) int64 rows: a class that has images is drawn, then an image of it."""
    order = torch.argsort(labels, stable=True)
    _, sizes = torch.unique(labels, return_counts=True)
    starts = sizes.cumsum(dim=0) - sizes
    u = torch.rand(2, count, generator=generator, dtype=torch.float64).to(labels.device)
    classes = (u[0] * len(sizes)).long()
    return order[starts[classes] + (u[1] * sizes[classes]).long()]
