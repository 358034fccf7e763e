"""The protocols of `evaluate.py` that run only when asked for."""

from __future__ import annotations

import json
import shlex
import statistics

import pytest

from ssl_lt.core.errors import ConfigError
from ssl_lt.evaluate.protocol_options import ProtocolOptions
from tests.toolbox import TINY, call, succeed

ALL = shlex.split(
    "--knn-k 5 20 --knn-vote weighted plain balanced --probe lbfgs sdclr "
    "--probe-on all long-tail long-tail-adjusted --shots 10 --fraction 0.05 --draws 2 "
    "--map-images 0 --num-workers 0"
)


@pytest.mark.slow
def test_every_protocol_that_is_asked_for_is_reported(empty):
    succeed("pretrain", *TINY, "--knn-every", "0", "--run-dir", "run")
    before = sorted(path.name for path in (empty / "run").iterdir())
    outcome = call("evaluate", "--run", "run", "--shots", "100000")
    assert outcome.code == 3
    assert "--shots: 100000 images of each class are asked for, but class" in outcome.err[-1]
    assert sorted(path.name for path in (empty / "run").iterdir()) == before
    succeed("evaluate", "--run", "run", *ALL)
    results = json.loads((empty / "run" / "results.json").read_text())
    found = {evaluation["name"]: evaluation for evaluation in results["evaluations"]}
    probes = ["linear probe", "linear probe (sdclr)"]
    assert set(found) >= {
        *("kNN", "kNN, plain vote", "kNN, balanced vote"),
        *(name + end for name in probes for end in ("", ", long-tailed", ", 10-shot", ", 5 %")),
        "linear probe, long-tailed, logit-adjusted",
    }
    assert "of 5, 20 on held-out training images" in found["kNN"]["note"]
    shots = found["linear probe, 10-shot"]
    assert len(shots["draws"]) == 2
    assert shots["accuracy"]["balanced"] == pytest.approx(statistics.fmean(shots["draws"]))
    assert "10 labelled images of each class, mean of 2 draws: all " in shots["note"]
    assert "±" in shots["note"]


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"knn_k": (5, 0)}, "--knn-k: 0"),
        ({"knn_temperature": 0.0}, "--knn-temperature"),
        ({"shots": (1,)}, "--shots: 1"),
        ({"fraction": (1.5,)}, "--fraction"),
        ({"draws": 0}, "--draws: 0"),
        ({"probe": ("bcl",), "probe_on": ("long-tail-adjusted",)}, "--probe-on"),
        ({"knn_vote": ("plain", "plain")}, "--knn-vote: plain plain names one twice"),
    ],
)
def test_options_out_of_range(values, flag):
    with pytest.raises(ConfigError, match=flag):
        ProtocolOptions(**values)
