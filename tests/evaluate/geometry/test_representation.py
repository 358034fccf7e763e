import numpy as np
import pytest

from ssl_lt.core.errors import DataError
from ssl_lt.core.groups import Groups
from ssl_lt.evaluate.geometry.centres import NUM_NEIGHBOURS
from ssl_lt.evaluate.geometry.representation import (
    Measures,
    ViewPair,
    alignment,
    collapse_warnings,
    effective_rank,
    feature_std,
    measure_representation,
    uniformity,
    unit_rows,
)

RANDOM = np.random.default_rng(0)
LABELS = np.repeat(np.arange(8), [5, 7, 1, 6, 9, 4, 3, 5])
FEATURES = RANDOM.standard_normal((LABELS.size, 6)) + 2 * RANDOM.standard_normal((8, 6))[LABELS]
GROUPS = [Groups("made up", (0, 1, 2), (3, 4, 5), (6, 7))]
VIEWS = ViewPair(FEATURES, FEATURES + RANDOM.standard_normal(FEATURES.shape), LABELS)


def distance(a, b):
    return float(np.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True))))


def slow(members):
    """Every measure by loops over images and pairs."""
    x = [row / np.sqrt((row**2).sum()) for row in FEATURES]
    first, second = ([r / np.linalg.norm(r) for r in v] for v in (VIEWS.first, VIEWS.second))
    rows = [i for i in range(len(x)) if LABELS[i] in members]
    pairs = [(i, j) for i in rows for j in rows if i < j]
    centres = []
    for c in range(8):
        mean = np.mean([x[i] for i in range(len(x)) if LABELS[i] == c], axis=0)
        centres.append(mean / np.linalg.norm(mean))
    away = [sorted(distance(centres[c], centres[d]) for d in range(8) if d != c) for c in members]
    within = []
    for c in members:
        same = [distance(x[i], x[j]) ** 2 for i, j in pairs if LABELS[i] == LABELS[j] == c]
        if same:
            within.append(np.mean(same))
    sigma = np.linalg.svd(np.stack([x[i] for i in rows]), compute_uv=False)
    p = sigma / sigma.sum()
    return Measures(
        alignment=np.mean([distance(first[i], second[i]) ** 2 for i in rows]),
        uniformity=np.log(np.mean([np.exp(-2 * distance(x[i], x[j]) ** 2) for i, j in pairs])),
        effective_rank=np.exp(-np.sum(p * np.log(p))),
        feature_std=np.mean(np.std([x[i] for i in rows], axis=0)) * np.sqrt(6),
        within_class_spread=np.mean(within),
        between_class_uniformity=np.mean(away),
        neighbourhood_uniformity=np.mean([row[:NUM_NEIGHBOURS] for row in away]),
    )


def same(found, expected):
    for name, value in vars(expected).items():
        value = value if value is None else pytest.approx(value, rel=1e-9)
        assert getattr(found, name) == value, name


def test_all_and_groups_against_loops():
    found = measure_representation("x", FEATURES, LABELS, views=VIEWS, groups=GROUPS)
    assert (found.name, found.dim, found.warnings) == ("x", 6, ())
    same(found.all, slow(range(8)))
    (group,) = found.groups
    for part in ("many", "medium", "few"):
        same(getattr(group, part), slow(list(getattr(GROUPS[0], part))))


def test_neither_order_nor_scale_nor_rotation_matter():
    found = measure_representation("x", FEATURES, LABELS, groups=GROUPS)
    order = RANDOM.permutation(LABELS.size)
    scaled = FEATURES * RANDOM.uniform(0.1, 9, (LABELS.size, 1))
    again = measure_representation("x", scaled[order], LABELS[order], groups=GROUPS)
    same(again.all, found.all)
    turned = FEATURES @ np.linalg.qr(RANDOM.standard_normal((6, 6)))[0]
    turned = measure_representation("x", turned, LABELS).all
    assert turned.effective_rank == pytest.approx(found.all.effective_rank)
    assert turned.uniformity == pytest.approx(found.all.uniformity)


def test_published_formulas_on_known_points():
    axes = np.eye(5)
    assert alignment(axes, -axes) == pytest.approx(4)
    assert uniformity(axes) == pytest.approx(-4)  # every squared distance is 2
    assert effective_rank(axes) == pytest.approx(5)
    assert effective_rank(np.tile(axes[:1], (9, 1))) == pytest.approx(1, abs=1e-6)
    sphere = unit_rows(RANDOM.standard_normal((4000, 16)))
    assert feature_std(sphere) == pytest.approx(1, abs=0.02)
    assert feature_std(np.tile(axes[:1], (9, 1))) == 0


def test_many_images_are_sampled_for_pairs_and_the_sample_is_seeded():
    x = RANDOM.standard_normal((2500, 8))
    y = np.arange(2500) % 10
    one, two, other = (
        measure_representation("x", x, y, seed=seed).all.uniformity for seed in (0, 0, 1)
    )
    assert one == two != other
    assert one == pytest.approx(uniformity(unit_rows(x)), abs=0.02)


def test_collapse_is_named():
    point = np.tile(RANDOM.standard_normal(64), (200, 1))
    y = np.arange(200) % 10
    near = point + 1e-3 * RANDOM.standard_normal((200, 64))
    std, rank = measure_representation("x", near, y).warnings
    assert "std is 0.0" in std
    assert "effective rank is 1." in rank
    plane = RANDOM.standard_normal((200, 2)) @ RANDOM.standard_normal((2, 64))
    y = np.arange(200) % 40
    (rank,) = measure_representation("x", plane, y).warnings
    assert "of 64, below 4" in rank
    assert measure_representation("x", RANDOM.standard_normal((200, 64)), y).warnings == ()


def test_bounds_of_the_warnings():
    kept = {"feature_std": 0.1, "effective_rank": 4.0, "dim": 64}
    assert collapse_warnings(**kept, num_classes=40) == ()
    assert len(collapse_warnings(**kept, num_classes=50)) == 1


def test_too_little_to_say():
    found = measure_representation("x", FEATURES[:1], LABELS[:1], groups=GROUPS)
    assert found.all.uniformity is None
    assert found.all.within_class_spread is None
    assert found.all.between_class_uniformity is None
    assert found.groups[0].few is None
    assert found.all.alignment is None


def test_rows_without_direction():
    for bad in (0.0, np.nan, np.inf):
        broken = FEATURES.copy()
        broken[3] = bad
        with pytest.raises(DataError, match=r"1 feature rows are zero or not finite.*row 3"):
            measure_representation("x", broken, LABELS)
    with pytest.raises(DataError, match="of 0 images"):
        measure_representation("x", FEATURES[:0], LABELS[:0])
