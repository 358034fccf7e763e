import json

import pytest

from ssl_lt.core.errors import DataError
from ssl_lt.report.records.curves import read_curves


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_numbers_by_name(tmp_path):
    write(
        tmp_path / "m.jsonl",
        [
            {"step": 1, "epoch": 0, "loss": 5, "lr": 0.1, "note": "hello", "ok": True},
            {"step": 2, "epoch": 0, "loss": float("nan"), "lr": 0.2},
            {"step": 2, "epoch": 0, "knn": 0.25},
            {"loss": 3.0},
        ],
    )
    curves = read_curves(tmp_path / "m.jsonl")
    assert sorted(curves) == ["knn", "loss", "lr"]
    assert (curves["loss"].steps, curves["loss"].values) == ((1,), (5.0,))
    assert (curves["lr"].steps, curves["lr"].values) == ((1, 2), (0.1, 0.2))


def test_a_step_logged_again_counts_once(tmp_path):
    write(tmp_path / "m.jsonl", [{"step": s, "loss": v} for s, v in ((1, 9), (2, 8), (1, 7))])
    assert read_curves(tmp_path / "m.jsonl")["loss"].values == (7.0, 8.0)


@pytest.mark.parametrize("num", [500, 501, 12345])
def test_thinned_evenly_to_the_last_point(tmp_path, num):
    write(tmp_path / "m.jsonl", [{"step": s, "loss": s / 2} for s in range(num)])
    curve = read_curves(tmp_path / "m.jsonl")["loss"]
    assert 250 <= len(curve.steps) <= 500
    assert curve.steps[-1] == num - 1
    assert len({b - a for a, b in zip(curve.steps, curve.steps[1:], strict=False)}) == 1
    assert curve.values[-1] == (num - 1) / 2


def test_only_the_last_line_may_be_cut(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1, "loss": 2}\n{"step": 2, "lo')
    assert read_curves(path)["loss"].steps == (1,)
    path.write_text('{"step": 1, "lo\n{"step": 2, "loss": 2}\n')
    with pytest.raises(DataError, match=r"m\.jsonl: line 1 is damaged"):
        read_curves(path)
    with pytest.raises(DataError, match=r"none\.jsonl"):
        read_curves(tmp_path / "none.jsonl")
    path.write_text("")
    assert read_curves(path) == {}
