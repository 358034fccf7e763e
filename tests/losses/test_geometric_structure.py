import math

import numpy as np
import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses import geometric_structure
from ssl_lt.losses.geometric_structure import simplex_etf, spread, structure_from_gaussian


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ssl_lt"


def gaussian(num_points, dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_points, dim, generator=generator, dtype=torch.float64)


def ideal_gram(num_points):
    gram = torch.full((num_points, num_points), -1 / (num_points - 1), dtype=torch.float64)
    return gram.fill_diagonal_(1.0)


def largest_cosine(points):
    """Slow on purpose: every pair."""
    rows = points.tolist()
    pairs = [(a, b) for i, a in enumerate(rows) for b in rows[:i]]
    return max(sum(x * y for x, y in zip(a, b, strict=True)) for a, b in pairs)


@pytest.mark.parametrize("shape", ["K2_d3", "K8_d16", "K10_d10", "K100_d128"])
def test_matches_the_release_up_to_d_points(golden, shape):
    d = golden("pretraining/gh_etf.npz")
    ours = structure_from_gaussian(torch.from_numpy(d[f"{shape}_gauss"]))
    np.testing.assert_allclose(ours, d[f"{shape}_M"], atol=1e-10)
    np.testing.assert_allclose(ours @ ours.T, d[f"{shape}_gram"], atol=1e-10)


def test_one_point_more_than_dimensions_is_exact_where_the_release_is_not(golden):
    d = golden("pretraining/gh_etf.npz")
    ours = structure_from_gaussian(torch.from_numpy(d["K10_d9_gauss"]))
    torch.testing.assert_close(ours @ ours.T, ideal_gram(10), atol=1e-12, rtol=0)
    assert np.abs(d["K10_d9_gram"] - ideal_gram(10).numpy()).max() > 0.1


def test_has_the_gram_matrix_of_the_shipped_structure(golden):
    shipped = golden("pretraining/gh_etf.npz")["shipped_100_128_gram"]
    ours = simplex_etf(100, 128, seed=3)
    np.testing.assert_allclose(ours @ ours.T, shipped, atol=1e-10)


@pytest.mark.parametrize(
    ("num_points", "dim"), [(2, 1), (2, 7), (3, 2), (9, 8), (10, 32), (65, 64)]
)
def test_is_a_simplex(num_points, dim):
    points = simplex_etf(num_points, dim, seed=0)
    torch.testing.assert_close(points @ points.T, ideal_gram(num_points), atol=1e-12, rtol=0)
    torch.testing.assert_close(points.sum(0), torch.zeros(dim).double(), atol=1e-12, rtol=0)


# Optima known in closed form: polygon, orthoplex (Rankin 1955), icosahedron.
@pytest.mark.parametrize(
    ("num_points", "dim", "optimum"),
    [
        (5, 2, math.cos(2 * math.pi / 5)),
        (8, 2, math.cos(math.pi / 4)),
        (5, 3, 0.0),
        (6, 3, 0.0),
        (12, 3, 1 / math.sqrt(5)),
        (32, 16, 0.0),
    ],
)
def test_numeric_search_finds_the_known_optimum(num_points, dim, optimum):
    points = spread(gaussian(num_points, dim))
    assert largest_cosine(points) == pytest.approx(optimum, abs=1e-5)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(num_points).double())


def test_numeric_search_spreads_more_than_chance():
    start = torch.nn.functional.normalize(gaussian(40, 16), dim=1)
    assert largest_cosine(spread(start)) < 0.2 * largest_cosine(start)


@pytest.mark.parametrize("num_points", [4, 12])
def test_is_a_function_of_the_seed(num_points, monkeypatch, tmp_path):
    first = simplex_etf(num_points, 4, seed=1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    torch.testing.assert_close(simplex_etf(num_points, 4, seed=1), first, atol=0, rtol=0)
    assert (simplex_etf(num_points, 4, seed=2) - first).abs().max() > 1e-2


def test_search_runs_once_and_is_then_read(cache, monkeypatch):
    first = simplex_etf(12, 3, seed=0)
    assert [p.suffix for p in cache.iterdir()] == [".npy"]

    def searched_again(start):
        raise AssertionError("not read from the cache")

    monkeypatch.setattr(geometric_structure, "spread", searched_again)
    torch.testing.assert_close(simplex_etf(12, 3, seed=0), first, atol=0, rtol=0)
    with pytest.raises(AssertionError, match="not read"):
        simplex_etf(12, 3, seed=1)


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "wrong"])
def test_a_damaged_cache_is_made_anew(cache, damage):
    first = simplex_etf(12, 3, seed=0)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    if damage == "wrong":
        np.save(path, 2 * first.numpy())
    else:
        path.write_bytes({"cut": whole[:-40], "empty": b"", "other": b"not an array"}[damage])
    torch.testing.assert_close(simplex_etf(12, 3, seed=0), first, atol=0, rtol=0)
    assert path.read_bytes() == whole


def test_works_where_nothing_may_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert largest_cosine(simplex_etf(6, 3, seed=0)) == pytest.approx(0, abs=1e-5)


def test_a_failed_write_leaves_nothing_behind(cache, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(geometric_structure.np, "save", full)
    assert simplex_etf(6, 3, seed=0).shape == (6, 3)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(("num_points", "dim"), [(1, 4), (0, 4), (65, 4), (1000, 16)])
def test_too_few_or_too_many_points(num_points, dim):
    with pytest.raises(ConfigError, match=r"--gh\.clusters"):
        simplex_etf(num_points, dim, seed=0)
