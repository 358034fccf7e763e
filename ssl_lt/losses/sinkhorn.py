"""Sinkhorn's algorithm: soft assignment of samples to clusters with prescribed cluster shares.

The plan maximises <Q, logits> + epsilon H(Q) among all Q >= 0 whose rows sum to one and whose
column means are the prior (Cuturi 2013, arXiv:1306.0895; here as geometric harmonization uses it,
arXiv:2310.17622). It is Q = softmax_k(logits / epsilon + f_k) for one potential f_k a cluster.

Two kinds of steps look for f, as in arXiv:1710.06635. With u = sum_i Q_i, (K,), the mass of the
clusters, and m = N prior, the mass that they should have:

1. Sinkhorn's, f <- f + log(m / u). In factors r = exp(change of f) on a plan P that stays, it is
   u = (1 / (P r)) P, r = m / u: two products of a matrix and a vector. The error falls by a
   constant part, and where the logits are clustered by hardly anything.
2. Newton's, for the convex function whose gradient is u - m. Its second derivative is the Laplacian
   of a graph of clusters, L = diag(G 1) - G with G = Q^T Q, and d solves
   (L + damping diag(m)) d = m - u. Far from the solution L says little, so the damping is a tenth
   of the error, as Levenberg and Marquardt do, and a move is sign(d) log(1 + |d|): for clusters
   that gain Newton's step on exp(f), for those that lose the one on exp(-f). Both fade as d does,
   and near the solution the convergence is quadratic. There is no proof from afar: six steps were
   enough for clustered logits of unit norm at epsilon 0.05; with gaps of hundreds of nats that the
   prior contradicts, the limit of steps ends it before the shares are right.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.processes.distributed import gather_rows, sum_over_ranks, world_size

# Sinkhorn's iterations before Newton's steps; a softmax and its factors last as long.
_STRETCH = 32
# The processor looks at the error after a few iterations, and then after every block.
_FIRST_BLOCK, _BLOCK = 4, 8
# A factor may move this far before the softmax is taken anew; products of two stay inside fp32.
_LOW, _HIGH = 1e-15, 1e15
# Newton's steps at most where nothing looks at the error, and where it is looked at.
_BLIND_STEPS, _STEPS = 8, 40
_DAMPING, _LEAST_DAMPING = 0.1, 1e-8
# Of all the mass: what a cluster's damping is at least, far above float64's rounding of an edge.
_LEAST_DAMPING_MASS = 1e-12
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
    """Balanced soft assignment Q of the samples of all processes; no gradient.

    The release runs 300 iterations of the first kind, which leave shares wrong by up to 1e-4 on
    strongly clustered logits. We stop once no share is wrong by more than `tolerance`, and take
    Newton's steps where those iterations have not come there. `tolerance` 0 runs `max_iterations`
    of the first kind, as the release does. Nothing over- or underflows however large
    logits / epsilon is: potentials are logarithms, and factors are bounded.

    The processor looks at the error, which lets it over-relax the iterations and end early.
    Elsewhere looking would stall the device: 33 plain iterations and eight of Newton's steps always
    run, the same number of kernels whatever the size and the number of views.

    Samples stay in their process: an iteration adds up K sums over the processes, and a step of
    Newton's K x K. Every process gets the same sums, bit for bit, and so the same potentials.

    Args:
        logits: (N, K), or (V, N, K) for views that are assigned one by one, of this process, the
            same N on each; computed in fp32, or float64 if given so. Outside autocast.
        prior: (K,) non-negative, sums to one. A cluster of share 0 gets exactly 0.
        epsilon: entropy's weight, in units of the logits.
        tolerance: largest error of a cluster's share at which to stop.
        max_iterations: at most so many, of both kinds together.

    Returns:
        As `logits`: rows sum to one; over all processes the column means are the prior.

    Raises:
        ConfigError: shapes that do not match, `epsilon` not positive or no iteration.
    """
    if prior.shape != logits.shape[-1:]:
        raise ConfigError(f"prior: shape {tuple(prior.shape)}, expected {tuple(logits.shape[-1:])}")
    if not epsilon > 0 or max_iterations < 1:
        raise ConfigError(
            f"epsilon > 0 and max_iterations >= 1 expected, got {epsilon} and {max_iterations}"
        )
    if logits.ndim == 3 and _may_look(logits):  # where one view may end before another
        assign = partial(
            sinkhorn, epsilon=epsilon, tolerance=tolerance, max_iterations=max_iterations
        )
        return torch.stack([assign(view, prior) for view in logits])
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / epsilon
    scaled = scaled.reshape(-1, *logits.shape[-2:])
    mass = prior.to(scaled) * scaled.shape[1] * world_size()
    enough = tolerance * scaled.shape[1] * world_size()
    looks = tolerance > 0 and _may_look(scaled)
    # A Newton step is worth more iterations the more clusters there are.
    stretch = _STRETCH * (1 + len(prior) // 256) if looks else _STRETCH
    plain = max_iterations if tolerance == 0 else min(max_iterations, 1 + stretch)
    # The first iteration is exact in logarithms; -inf where the prior is 0.
    columns = gather_rows(scaled.logsumexp(1, keepdim=True)[None]).logsumexp(0)
    potential = mass.log() - columns
    plan = torch.softmax(scaled + potential, dim=2)
    for done in range(1, plain, stretch):
        number = min(stretch, plain - done)
        r, v = _factors(plan, mass, number=number, enough=enough if looks else None)
        potential = potential + r.log()
        if plain - done > stretch:
            plan = torch.softmax(scaled + potential, dim=2)
        else:  # the same up to rounding, and less work
            plan = plan.mul_(r).div_(v.mT)
    for _ in range(min(max_iterations - plain, _STEPS if looks else _BLIND_STEPS)):
        missing = mass - sum_over_ranks(plan.sum(1, keepdim=True))
        if looks and missing.abs().amax() < enough:
            break
        potential = potential + _newton_step(plan, mass, missing)
        plan = torch.softmax(scaled + potential, dim=2)
    return plan.reshape(logits.shape)


def _may_look(values: Tensor) -> bool:
    """Whether a branch on `values` costs nothing."""
    return values.device.type == "cpu"


def _factors(
    plan: Tensor, mass: Tensor, *, number: int, enough: float | None
) -> tuple[Tensor, Tensor]:
    """Some of Sinkhorn's iterations on (V, N, K) plans.

    Args:
        plan: rows sum to one.
        mass: (K,) m.
        number: of iterations.
        enough: error of the mass at which to stop, looked at now and then; over-relaxed in between.
            None looks at nothing.

    Returns:
        (V, 1, K) factors r of the clusters, and (V, 1, N) sums v of the samples' rows of plan * r.
    """
    # Instead of 0 / 0, where a cluster may have nothing and so has nothing.
    empty = (mass == 0).to(plan).expand(len(plan), 1, -1)
    # u and v are what clusters and samples are divided by; row vectors, for the processor's sake.
    v = torch.ones_like(plan[:, :1, :1]).expand(-1, 1, plan.shape[1])
    r, u = torch.ones_like(empty), mass + empty
    found = sum_over_ranks(torch.baddbmm(empty, v, plan))
    kept, last, omega, block = (r, u, v, found), math.inf, 1.0, _FIRST_BLOCK
    done = 0
    while done < number:
        if enough is not None:
            error = float((found * r - mass * (mass > 0)).abs().amax())
            if error < enough:
                break  # r and v belong together here
            if omega == 1 or error < last:
                omega = _relaxation(omega, (error / last) ** (1 / block)) if done else 1.0
                last, kept = error, (r, u, v, found)
            else:
                omega, (r, u, v, found) = 1.0, kept
        block = min(_BLOCK if done else _FIRST_BLOCK, number - done)
        done += block
        for left in reversed(range(block)):
            u = found if omega == 1 else u.lerp(found, omega)
            r = (mass / u).clamp_(_LOW, _HIGH)
            # Rows sum to one after the last.
            share = omega if left else 1.0
            v = torch.baddbmm(v, r, plan.mT, beta=1 - share, alpha=share)
            found = sum_over_ranks(torch.baddbmm(empty, v.reciprocal(), plan))
    return r, v


def _relaxation(omega: float, rate: float) -> float:
    """Best power for the next block, from the rate an iteration's error fell by under `omega`.

    Young's theory of successive over-relaxation: (rate + omega - 1)^2 = lam omega^2 rate with
    lam the rate of the plain iteration, for which 2 / (1 + sqrt(1 - lam)) is best. A few
    iterations tell the rate badly, so the distance from 2, where it would diverge, halves at most.
    """
    if not rate < 1:
        return 1.0
    seen = max(rate, omega - 1, 1e-3)
    lam = min(((seen + omega - 1) / omega) ** 2 / seen, 1.0)
    return min(2 / (1 + math.sqrt(1 - lam)), _MOST_RELAXED, 1 + omega / 2)


def _newton_step(plan: Tensor, mass: Tensor, missing: Tensor) -> Tensor:
    """(V, 1, K) change of the potentials of (V, N, K) plans that lack `missing` (V, 1, K) mass."""
    # In float64, which costs nothing here: the edges of the graph are of very different weight.
    laplacian = sum_over_ranks(torch.bmm(plan.mT, plan)).double().neg_()
    diagonal = laplacian.diagonal(dim1=1, dim2=2)
    # From the edges alone, because what a cluster shares with itself would swallow them.
    diagonal.zero_()
    wrong = missing.double()
    total = mass.sum()
    part = wrong.abs().sum(2) * (_DAMPING / total) + _LEAST_DAMPING
    # At least so much, or clusters of hardly any share whose edges only join one another would make
    # a singular block. A cluster that may have nothing has no edge, lacks nothing and stays.
    damping = torch.maximum(mass * part, (_LEAST_DAMPING_MASS * total).to(part))
    diagonal.copy_(damping - laplacian.sum(2))
    factor, _ = torch.linalg.cholesky_ex(laplacian)
    d = torch.cholesky_solve(wrong.mT, factor).mT
    return d.abs().log1p_().copysign_(d).to(plan.dtype)
