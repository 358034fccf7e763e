"""LDAM: margins that grow as the fourth root of a class's count falls (arXiv:1906.07413)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.class_counts import positive_counts
from ssl_lt.losses.cross_entropy import cross_entropy


def ldam_margins(counts_per_class: Tensor, *, max_margin: float) -> Tensor:
    """`m_j = K n_j^(-1/4)`, with K such that the rarest class has `max_margin`.

    Args:
        counts_per_class: (C,) training images of each class, none of them 0.
        max_margin: of the rarest class, in cosines.

    Returns:
        (C,) floating: that of the counts, float32 for integers.

    Raises:
        ConfigError: a class without images.
    """
    margins = positive_counts(counts_per_class) ** -0.25
    return max_margin * margins / margins.max()


def less_margin(logits: Tensor, labels: Tensor, margins: Tensor) -> Tensor:
    """(B, C) logits, `m_y` less at the label.

    Args:
        logits: (B, C).
        labels: (B,) int64, `y`.
        margins: (C,), `m`, in units of the logits.
    """
    return logits - F.one_hot(labels, logits.shape[1]) * margins[labels][:, None]


def ldam(logits: Tensor, labels: Tensor, margins: Tensor) -> Tensor:
    """`-log( e^(f_y - m_y) / (e^(f_y - m_y) + sum_{j != y} e^f_j) )` (arXiv:1906.07413).

    The released code takes cosines, subtracts margins from them and multiplies by s = 30. Our
    classifier gives `s cos` already, so margins arrive here multiplied by s: the same number.

    Args:
        logits: (B, C), `f`.
        labels: (B,) int64, `y`.
        margins: (C,), `m`, in units of the logits.

    Returns:
        (B,) losses.
    """
    return cross_entropy(less_margin(logits, labels, margins), labels)


def ldam_hinge(logits: Tensor, labels: Tensor, margins: Tensor) -> Tensor:
    """`max(max_{j != y} f_j - f_y + m_y, 0)` (LDAM-HG of arXiv:1906.07413).

    Of logits `s cos` and margins `s m` it is s times the paper's loss, which is of cosines; like
    the softmax loss beside it, whose gradient has the same factor.

    Args:
        logits: (B, C), `f`.
        labels: (B,) int64, `y`.
        margins: (C,), `m`, in units of the logits.

    Returns:
        (B,) losses.
    """
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], float("-inf")).amax(dim=1)
    return F.relu(others - own[:, 0] + margins[labels])


@dataclass(frozen=True)
class LdamOptions:
    """Options of LDAM, meant for `--classifier cosine`; constants of the released code."""

    max_margin: float = 0.5
    """Margin of the rarest class, in cosines."""
    scale: float = 30.0
    """Logits are cosines times this: 30 for `--classifier cosine`; 1: margins are of logits."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_margin < float("inf"):
            raise ConfigError(f"--max-margin: {self.max_margin} is negative or not finite")
        if not 0 < self.scale < float("inf"):
            raise ConfigError(f"--scale: {self.scale} is not a positive number")


class Ldam(nn.Module):
    """`ldam` or `ldam_hinge` as a module.

    Args:
        counts_per_class: (C,) training images of each class, none of them 0.
        options: largest margin and scale.
        equation: which of the two.

    Raises:
        ConfigError: a class without images.
    """

    margins: Tensor

    def __init__(
        self,
        counts_per_class: Tensor,
        options: LdamOptions,
        equation: Callable[[Tensor, Tensor, Tensor], Tensor] = ldam,
    ) -> None:
        super().__init__()
        self.equation = equation
        # Follows from the data, so it is not saved with the weights.
        margins = options.scale * ldam_margins(counts_per_class, max_margin=options.max_margin)
        self.register_buffer("margins", margins, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,) losses of (B, C) logits."""
        return self.equation(logits, labels, self.margins)


def ldam_hinge_loss(counts_per_class: Tensor, options: LdamOptions) -> Ldam:
    """LDAM's margins in a hinge loss."""
    return Ldam(counts_per_class, options, ldam_hinge)
