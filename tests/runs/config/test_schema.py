from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from ssl_lt.cli.commands import pretrain
from ssl_lt.core.errors import ConfigError
from ssl_lt.pretrain.registry import METHODS, PLUGINS
from ssl_lt.runs.config import finetune as finetune_config
from ssl_lt.runs.config.evaluate import EvaluateConfig
from ssl_lt.runs.config.schema import coerce, flat_fields, nearest, to_mapping, with_values

ALL = [pretrain.default(method, list(PLUGINS)) for method in METHODS]
ALL += [finetune_config.default(loss) for loss in finetune_config.ENTRIES]
ALL += [EvaluateConfig()]


@pytest.mark.parametrize("config", ALL)
def test_no_two_fields_share_a_flag(config):
    names = [name for name, _, _ in flat_fields(config)]
    assert len(names) == len(set(names)) > 5


def test_names_are_flat_or_prefixed():
    names = {name: path for name, path, _ in flat_fields(pretrain.default("sdclr", ["gh"]))}
    assert names["prune-ratio"] == ("options", "prune_ratio")
    assert names["gh.warmup-epochs"] == ("gh", "warmup_epochs")
    assert names["warmup-epochs"] == ("schedule", "warmup_epochs")
    assert names["projector.output-dim"] == ("projector", "output_dim")
    assert "bcl.beta" not in names


@pytest.mark.parametrize("config", ALL)
def test_a_mapping_gives_the_object_back(config):
    blank = type(config)()
    mapping = to_mapping(config)
    assert with_values(blank, mapping, origin="x") == config
    plain = (type(None), bool, int, float, str, list)
    assert all(isinstance(value, plain) for value in mapping.values())


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (3, float, 3.0),
        (0.5, float, 0.5),
        (None, int | None, None),
        (4, int | None, 4),
        (4, float | None, 4.0),
        ("a/b", Path, Path("a/b")),
        ("a/b", Path | None, Path("a/b")),
        (False, Literal["auto", "no"], "no"),
        ("auto", Literal["auto", "no"], "auto"),
        ([1, 0.5], tuple[float, ...], (1.0, 0.5)),
        ([], tuple[Literal["a"], ...], ()),
        (True, bool, True),
    ],
)
def test_a_value_takes_its_fields_type(value, kind, expected):
    found = coerce(value, kind, where="f: k")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind", "says"),
    [
        ("3", int, "'3' is not of type int"),
        (3.0, int, "3.0 is not of type int"),
        (True, int, "True is not of type int"),
        (True, float, "True is not of type float"),
        (1, bool, "1 is not of type bool"),
        (None, int, "None is not of type int"),
        (5, str, "5 is not of type str"),
        (5, Path, "5 is not of type"),
        ("a", tuple[str, ...], "'a' is not a list"),
        ([1], tuple[str, ...], "1 is not of type str"),
        (False, Literal["auto", "bf16"], "False is none of auto, bf16"),
        ("fp8", Literal["auto", "no"], "'fp8' is none of auto, no"),
        ([["a"]], tuple[Literal["a"], ...], r"\['a'\] is none of a"),
    ],
)
def test_a_wrong_type_is_refused_by_name(value, kind, says):
    with pytest.raises(ConfigError, match=f"^f: k: {says}"):
        coerce(value, kind, where="f: k")


def test_nearest():
    assert nearest("epoch", ["epochs", "lr"]) == "; did you mean epochs?"
    assert nearest("qqq", ["epochs", "lr"]) == ""


def test_a_value_out_of_range_names_where_it_came_from():
    with pytest.raises(ConfigError, match=r"^my\.yaml: --epochs: 0 is below 1"):
        with_values(pretrain.default("simclr", []), {"epochs": 0}, origin="my.yaml")
