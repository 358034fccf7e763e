"""Configurations for tests, by the parser that commands use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ssl_lt.runs.config.finetune import AnyFinetuneConfig, default_config, kind_of
from ssl_lt.runs.config.parse import from_mapping
from ssl_lt.runs.config.pretrain import PretrainConfig, spelled_out


def pretraining(
    method: str = "simclr", plugins: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> PretrainConfig:
    """`pretrain.py --method METHOD --plugins ...`, with other flags by name."""
    chosen: Any = replace(PretrainConfig(), method=method, plugins=tuple(plugins))
    return from_mapping(PretrainConfig, values or {}, default=spelled_out(chosen))


def finetuning(loss: str = "la", values: Mapping[str, Any] | None = None) -> AnyFinetuneConfig:
    """`finetune.py --loss LOSS`, with other flags by name."""
    return from_mapping(kind_of(loss), values or {}, default=default_config(loss))
