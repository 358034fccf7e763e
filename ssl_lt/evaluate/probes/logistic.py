"""Multinomial logistic regression with an L2 penalty, solved by L-BFGS to convergence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ssl_lt.losses.logit_adjustment import class_log_prior

_MEAN_CURVATURE = 3.0  # of 0.1 ... 30, needed the fewest iterations on CIFAR-100's features
_LARGEST = 1 << 23  # logits of training images that are held at once, 32 MiB of them


@dataclass(frozen=True)
class Stop:
    """When the solver stops.

    Attributes:
        tolerance: no entry of the gradient of the mean loss exceeds it, in coordinates in which the
            curvature is about one.
        max_iterations: should the tolerance be out of reach.
    """

    tolerance: float
    max_iterations: int = 500


CONVERGED = Stop(5e-4)


def fit_logistic(
    x: Tensor,
    y: Tensor,
    *,
    l2: float,
    tau: float = 0.0,
    start: Tensor | None = None,
    stop: Stop = CONVERGED,
) -> tuple[Tensor, int]:
    """Minimises mean_i [ logsumexp_c z_ic - z_i,y_i ] + l2/2 ||W||^2 by L-BFGS.

    z = x W + b + tau log pi with class shares pi (Eq. 10 of arXiv:2007.07314). Value and gradient
    are closed-form, one matrix product each. b is not penalised, so tau moves b alone and leaves W.

    Args:
        x: (N, D) standardised; its dtype is the precision of the fit.
        y: (N,) int64 in 0 ... K-1, every class present.
        l2: of the penalty.
        tau: of the adjustment.
        start: (D + 1, K) weights of a neighbouring l2.
        stop: when the solver stops.

    Returns:
        (D + 1, K) weights, the last row b, and the number of iterations.
    """
    num_rows, dim = x.shape
    num_classes = int(y.max()) + 1
    basis = _basis(x, l2=l2, num_classes=num_classes)
    v = x.new_zeros(dim + 1, num_classes) if start is None else torch.linalg.solve(basis, start)
    at_once = max(1, _LARGEST // num_classes)
    parts = list(zip(torch.split(x, at_once), torch.split(y, at_once), strict=True))
    shift = tau * class_log_prior(y.bincount()).to(x)

    def loss_and_gradient() -> Tensor:
        w = basis @ v
        loss = l2 / 2 * w[:-1].double().square().sum()
        grad = torch.zeros_like(w)
        for rows, classes in parts:
            log_p = torch.addmm(w[-1] + shift, rows, w[:-1]).log_softmax(dim=1)
            own = torch.arange(len(rows), device=x.device), classes
            loss -= log_p[own].double().sum() / num_rows
            residual = log_p.exp_()  # softmax - one-hot, in the memory of log p
            residual[own] -= 1
            grad += torch.cat([rows.T @ residual, residual.sum(dim=0, keepdim=True)]) / num_rows
        grad[:-1] += l2 * w[:-1]
        v.grad = basis.T @ grad
        return loss

    solver: Any = torch.optim.LBFGS(
        [v],
        max_iter=stop.max_iterations,
        tolerance_grad=stop.tolerance,
        tolerance_change=1e-12,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    with torch.no_grad():
        solver.step(loss_and_gradient)
    return basis @ v, int(solver.state[v]["n_iter"])


def _basis(x: Tensor, *, l2: float, num_classes: int) -> Tensor:
    """(D + 1, D + 1) coordinates W = basis V in which the curvature is about the same everywhere.

    The Hessian of a class c is sum_i p_ic (1 - p_ic) x_i x_i^T / N + l2. We take `_MEAN_CURVATURE`
    / K for p (1 - p), which is about 1 / K at W = 0 and more for the rows that W has learned to
    tell. Correlated features make it so uneven that L-BFGS takes many times the iterations.
    """
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    curvature = _MEAN_CURVATURE * values.clamp(min=0) / num_classes + l2
    floor = 1e-6 * curvature.max().clamp(min=torch.finfo(x.dtype).tiny)
    scaled = vectors * curvature.clamp(min=floor).rsqrt()
    basis = x.new_zeros(len(values) + 1, len(values) + 1)
    basis[:-1, :-1], basis[-1, -1] = scaled, num_classes**0.5
    return basis


def logits(x: Tensor, weights: Tensor) -> Tensor:
    """(N, K) from (N, D) features and (D + 1, K) weights."""
    return torch.addmm(weights[-1], x, weights[:-1])
