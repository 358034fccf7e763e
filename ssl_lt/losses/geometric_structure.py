"""Geometric uniform structure: K fixed unit vectors as far from each other as d dimensions allow.

Up to d+1 points it is the simplex equiangular tight frame, whose inner products are all
-1/(K-1) (arXiv:2310.17622); beyond, such a frame does not exist and the largest inner
product is minimised numerically, once, and kept in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError

# Past this the cosines of neighbours no longer tell clusters apart, and the search takes minutes.
MAX_POINTS_PER_DIM = 16
_SHARPNESS = (4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)
_CACHE_VERSION = 1


def simplex_etf(num_points: int, dim: int, *, seed: int) -> Tensor:
    """Maximally separated unit vectors in a random orientation.

    Args:
        num_points: K, at least 2.
        dim: d.
        seed: of the Gaussian matrix that everything follows from.

    Returns:
        (K, d) float64 rows of unit norm, the same for the same arguments.

    Raises:
        ConfigError: fewer than 2 points, or more than `MAX_POINTS_PER_DIM` a dimension.
    """
    if not 2 <= num_points <= MAX_POINTS_PER_DIM * dim:
        raise ConfigError(
            f"--gh.clusters: {num_points} clusters in {dim} dimensions; "
            f"from 2 to {MAX_POINTS_PER_DIM * dim} are possible"
        )
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(num_points, dim, generator=generator, dtype=torch.float64)
    if num_points <= dim + 1:
        return structure_from_gaussian(gaussian)
    path = _cache_folder() / f"structure-v{_CACHE_VERSION}-{num_points}x{dim}-seed{seed}.npy"
    points = _load(path, num_points, dim)
    if points is None:
        points = structure_from_gaussian(gaussian)
        _save(path, points)
    return points


def structure_from_gaussian(gaussian: Tensor) -> Tensor:
    """The structure that a given random matrix leads to.

    K <= d: sqrt(K/(K-1)) (I - 11^T/K) U with U the orthonormal polar factor of the matrix.
    K = d+1: U must span the complement of 1, so the matrix is centred before its polar factor is
    taken. (The release takes the first formula here too, and gets inner products from -.30 to .17
    and norms from .82 to 1 instead of -1/9 and 1 at K = 10.) K > d+1: `spread`.

    Args:
        gaussian: (K, d) of full rank, K >= 2.

    Returns:
        (K, d) rows of unit norm, in `gaussian`'s dtype.
    """
    num_points, dim = gaussian.shape
    if num_points > dim + 1:
        return spread(gaussian)
    if num_points == dim + 1:
        gaussian = gaussian - gaussian.mean(0)
    left, _, right = torch.linalg.svd(gaussian, full_matrices=False)
    polar: Tensor = left @ right
    return math.sqrt(num_points / (num_points - 1)) * (polar - polar.mean(0))


def spread(start: Tensor) -> Tensor:
    """Moves points on the sphere until their largest inner product is (locally) smallest.

    The maximum is smoothed, max_ij <m_i, m_j> ~ log sum exp(s <m_i, m_j>) / s, with s growing;
    L-BFGS minimises each smooth problem from the solution of the one before.

    Args:
        start: (K, d), no row zero.

    Returns:
        (K, d) float64 rows of unit norm.
    """
    free = F.normalize(start.detach().double(), dim=1).requires_grad_()
    first, second = torch.triu_indices(len(start), len(start), offset=1)
    for sharpness in _SHARPNESS:
        optimizer = torch.optim.LBFGS([free], max_iter=60, line_search_fn="strong_wolfe")

        def smooth_maximum(
            sharpness: float = sharpness, optimizer: torch.optim.LBFGS = optimizer
        ) -> Tensor:
            optimizer.zero_grad()
            points = F.normalize(free, dim=1)
            cosines = (points @ points.T)[first, second]
            loss = torch.logsumexp(sharpness * cosines, dim=0) / sharpness
            torch.autograd.backward(loss)
            return loss

        optimizer.step(smooth_maximum)  # type: ignore[no-untyped-call]
    return F.normalize(free.detach(), dim=1)


def _cache_folder() -> Path:
    """Where this user's programs keep what can be computed again."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "ssl_lt"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "ssl_lt" / "cache"
    return Path(os.path.expanduser("~")) / ".cache" / "ssl_lt"  # noqa: PTH111, never raises


def _load(path: Path, num_points: int, dim: int) -> Tensor | None:
    """What `_save` wrote, or None if it is not there or damaged."""
    try:
        points = torch.from_numpy(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError, TypeError):
        return None
    if points.shape != (num_points, dim) or points.dtype != torch.float64:
        return None
    unit = torch.allclose(points.norm(dim=1), torch.ones(num_points, dtype=torch.float64))
    return points if unit else None


def _save(path: Path, points: Tensor) -> None:
    """Writes whole or not at all; a folder that may not be written costs only time next time."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            try:
                np.save(file, points.numpy(), allow_pickle=False)
            except OSError:
                file.close()
                Path(file.name).unlink(missing_ok=True)
                raise
        Path(file.name).replace(path)
