"""LIFT's modules in double precision, with the weights and gradients of its released code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

FILE = Path(__file__).parents[2] / "golden" / "supervised" / "light_finetuning.npz"


def load():
    with np.load(FILE, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def assert_golden(module, names, case):
    """Output and every gradient of the case; `names`: LIFT's name -> ours."""
    numbers = load()
    module = module.double()
    module.load_state_dict({ours: numbers[f"{case}.{theirs}"] for theirs, ours in names.items()})
    x = numbers["x"].requires_grad_()
    y = module(x)
    close = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(y, numbers[f"{case}_y"], **close)
    y.backward(numbers["g"])
    torch.testing.assert_close(x.grad, numbers[f"{case}_grad_x"], **close)
    gradients = {name: p.grad for name, p in module.named_parameters()}
    assert gradients.keys() == set(names.values())
    for theirs, ours in names.items():
        torch.testing.assert_close(gradients[ours], numbers[f"{case}_grad.{theirs}"], **close)
