"""Sinkhorn's algorithm: soft assignment of samples to clusters with prescribed cluster shares.

The plan maximises <Q, logits> + epsilon H(Q) among all Q >= 0 whose rows sum to one and whose
column means are the prior (Cuturi 2013, arXiv:1306.0895; here as geometric harmonization uses it,
arXiv:2310.17622). It is softmax_k(logits / epsilon + f_k) for one potential f_k a cluster.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_lt.core.errors import ConfigError

# Iterations between two looks at the error; the first is earlier, to relax sooner.
_FIRST_BLOCK, _BLOCK = 4, 8
# Iterations after which the softmax is taken anew.
_STRETCH = 48
# Between two softmaxes a scaling factor may move this far; products of two stay inside fp32.
_LOW, _HIGH = 1e-15, 1e15
_MOST_RELAXED = 1.96


@torch.no_grad()
def sinkhorn(
    logits: Tensor,
    prior: Tensor,
    *,
    epsilon: float,
    tolerance: float = 1e-6,
    max_iterations: int = 300,
) -> Tensor:
    """Balanced soft assignment Q of a (global) batch; no gradient.

    One iteration is r = prior / (K^T c), c = (1/N) / (K r) with K = exp(logits / epsilon), c = 1/N
    at first, Q = N c K r. The first is done in the log domain and leaves one softmax; the others
    scale that softmax in the linear domain. Every few dozen of them the potential takes the
    factors up and the softmax is taken anew. So nothing over- or underflows however large
    logits / epsilon is, and two matrix-vector products are all an iteration costs.

    The release runs 300 plain iterations, which leave shares wrong by up to 1e-4 on strongly
    clustered logits. We stop once no share is wrong by more than `tolerance`, and get there two
    to nine times sooner by over-relaxation: factors are raised to a power estimated from how fast
    the error falls. The error costs nothing: after a plain c all rows sum to one, and the shares
    are what the next r divides by. `tolerance` 0 runs `max_iterations` plain iterations, as the
    release does.

    The processor looks at the error after each block; elsewhere, where looking would stall the
    device, all blocks run and a flag on the device freezes the result: the same numbers.

    Args:
        logits: (N, K); computed in fp32, or float64 if given so. Outside autocast.
        prior: (K,) non-negative, sums to one. A cluster of share 0 gets exactly 0.
        epsilon: entropy's weight, in units of the logits.
        tolerance: largest error of a cluster's share at which to stop.
        max_iterations: at most so many.

    Returns:
        (N, K): rows sum to one, column means are the prior.

    Raises:
        ConfigError: shapes that do not match, `epsilon` not positive or no iteration.
    """
    if prior.shape != logits.shape[1:]:
        raise ConfigError(f"prior: shape {tuple(prior.shape)}, expected {tuple(logits.shape[1:])}")
    if not epsilon > 0 or max_iterations < 1:
        raise ConfigError(
            f"epsilon > 0 and max_iterations >= 1 expected, got {epsilon} and {max_iterations}"
        )
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / epsilon
    prior = prior.to(scaled)
    even = scaled.new_full((len(scaled),), 1 / len(scaled))
    done = torch.zeros((), dtype=torch.bool, device=scaled.device)
    omega, last_error = scaled.new_ones(()), scaled.new_full((), torch.inf)
    base = potential = prior.log() - scaled.logsumexp(0)
    r, iterations, block, stretch = torch.ones_like(prior), 1, 0, _STRETCH
    while True:
        potential = torch.where(done, potential, base + r.log())
        if stretch >= _STRETCH:
            base, stretch = potential, 0
            plan = torch.softmax(scaled + base, dim=1)
            r, c = torch.ones_like(prior), even
            shares = plan.T @ c
        error = (shares - prior).abs().amax()
        done = done | (error < tolerance)
        if iterations == max_iterations or (_may_look(scaled) and done):
            return torch.softmax(scaled + potential, dim=1)
        if tolerance > 0 and iterations > 1:
            omega = _relaxation(omega, (error / last_error) ** (1 / block))
        last_error = error
        block = min(_BLOCK if iterations > 1 else _FIRST_BLOCK, max_iterations - iterations)
        r, c, shares = _iterate(plan, prior, (r, c, shares), omega, num_iterations=block)
        iterations, stretch = iterations + block, stretch + block


def _may_look(values: Tensor) -> bool:
    """Whether a branch on `values` costs nothing."""
    return values.device.type == "cpu"


def _iterate(
    plan: Tensor,
    prior: Tensor,
    state: tuple[Tensor, Tensor, Tensor],
    omega: Tensor,
    *,
    num_iterations: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """(r, c, shares of c * plan * r) after some iterations, over-relaxed but for the last c."""
    r, c, shares = state
    tiny = torch.finfo(plan.dtype).tiny
    for left in reversed(range(num_iterations)):
        r = (r * (prior / shares.clamp_(min=tiny)).pow_(omega)).clamp_(_LOW, _HIGH)
        sums = c * (plan @ r) * len(plan)
        c = (c * sums.pow_(-omega if left else -1)).clamp_(_LOW, _HIGH)
        shares = r * (plan.T @ c)
    return r, c, shares


def _relaxation(omega: Tensor, rate: Tensor) -> Tensor:
    """Best power for the next block, from the rate an iteration's error fell by under `omega`.

    Young's theory of successive over-relaxation: (rate + omega - 1)^2 = lam omega^2 rate with
    lam the rate of the plain iteration, for which 2 / (1 + sqrt(1 - lam)) is best. A few
    iterations tell the rate badly, so the distance from 2, where it would diverge, halves at most.
    If the error grew, the next block is plain.
    """
    seen = rate.clamp(min=1e-3).maximum(omega - 1)
    lam = (((seen + omega - 1) / omega) ** 2 / seen).clamp(max=1)
    best = (2 / (1 + (1 - lam).sqrt())).clamp(max=_MOST_RELAXED).minimum(1 + omega / 2)
    return torch.where(rate < 1, best, torch.ones_like(best))
