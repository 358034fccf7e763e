"""The configuration of a fine-tuning: what a loss adds to it, and what a resumed run keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ssl_lt.augment.views import ViewOptions
from ssl_lt.cli.config.parse import parse, peek_values, read_configs, take_values
from ssl_lt.core.errors import ConfigError
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.finetune.registry import STEPS, StepEntry
from ssl_lt.losses.registry import LOSSES, LossEntry
from ssl_lt.runs.config.options import FinetuneConfig
from ssl_lt.runs.config.schema import coerce, extended, flat, flat_fields, nearest, one_of
from ssl_lt.runs.life.find import resumed_config, stored_values
from ssl_lt.runs.life.init_from import Origin, find_origin

ENTRIES: dict[str, LossEntry | StepEntry] = {**LOSSES, **STEPS}


def default(loss: str) -> FinetuneConfig:
    """The default configuration with the options of one loss in it.

    Raises:
        ConfigError: an unknown loss.
    """
    if loss not in ENTRIES:
        raise ConfigError(f"--loss: unknown name {loss!r}{nearest(loss, ENTRIES)}")
    entry = ENTRIES[loss]
    fields: list[tuple[str, Any, Any]] = [
        ("loss", one_of(ENTRIES), loss),
        ("options", flat(entry.options), entry.options),
    ]
    if entry.has_views:
        fields.append(("view", ViewOptions, ViewOptions))
    return extended(FinetuneConfig, fields)


def read_config(
    words: list[str], resumed: RunFolder | None
) -> tuple[FinetuneConfig, Origin | None]:
    """The configuration of a new run and what it starts from, or that of a run that goes on."""
    values = read_configs(words)
    if resumed is not None:
        if peek_values(words, "--init-from") == ["auto"]:
            take_values(words, "--init-from")  # what it meant was written down at the start
        loss = str(stored_values(resumed)["loss"])
        return resumed_config(default(loss), words, values, resumed), None
    chosen = default(_one(words, values, "loss", FinetuneConfig.loss))
    init_from = _one(words, values, "init-from", FinetuneConfig.init_from)
    # A stranger may ask for help before anything has been trained.
    origin = find_origin("scratch" if {"--help", "-h"} & {*words} else init_from)
    config = parse(
        chosen,
        words,
        {**origin.values, **values},
        prog="finetune.py",
        elsewhere=_other_flags(chosen),
    )
    return replace(config, init_from=origin.name), origin


def _one(words: list[str], values: Mapping[str, Any], name: str, otherwise: str) -> str:
    """What a flag says, or else a YAML value."""
    value: str = coerce(values.get(name, otherwise), str, where=f"--config: {name}")
    return (peek_values(words, f"--{name}") or [value])[0]


def _other_flags(chosen: FinetuneConfig) -> dict[str, str]:
    """Flags of the losses that were not chosen, and whose they are."""
    own = {name for name, _, _ in flat_fields(chosen)}
    views = [f"view.{name}" for name, _, _ in flat_fields(ViewOptions())]
    flags = dict.fromkeys(views, "the losses with contrastive views, such as --loss rcl")
    flags |= {
        option.name.replace("_", "-"): f"--loss {loss}"
        for loss, entry in ENTRIES.items()
        for option in dataclasses.fields(entry.options)
    }
    return {flag: owner for flag, owner in flags.items() if flag not in own}
