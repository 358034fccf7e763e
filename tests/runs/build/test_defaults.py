"""What a loss needs of the number of epochs."""

from __future__ import annotations

import pytest

from ssl_lt.core.errors import ConfigError
from ssl_lt.runs.build.defaults import check_epochs
from tests.configs import finetuning, recipe


@pytest.mark.parametrize(
    ("loss", "values", "fewest"),
    [("sbcl", {}, 11), ("sbcl", {"cluster-after": 3}, 4), ("hybrid_sc", {}, 2), ("la", {}, 1)],
)
def test_each_part_of_a_loss_has_its_epochs(loss, values, fewest):
    check_epochs(finetuning(loss, values))  # how many is not known
    check_epochs(finetuning(loss, {"epochs": fewest, **values}))
    if fewest > 1:
        with pytest.raises(ConfigError, match=f"--epochs: {fewest - 1}, and"):
            check_epochs(finetuning(loss, {"epochs": fewest - 1, **values}))


@pytest.mark.parametrize("name", ["sbcl", "hybrid_sc", "hybrid_psc"])
def test_rows_of_the_shelf_have_them(name):
    check_epochs(recipe("finetune", "laptop/shelf", f"laptop/{name}"))
