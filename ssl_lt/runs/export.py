"""`ssl-lt export`: a run's network as a folder that timm loads, with a model card, and as ONNX."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.disk.folders import check_replaceable, replace_dir_atomically
from ssl_lt.core.disk.plain import to_plain
from ssl_lt.data.dataset import Data
from ssl_lt.data.sources.source import Source
from ssl_lt.data.splits.split import read_split
from ssl_lt.data.tables.table import PixelTable
from ssl_lt.engine.checkpoints.chosen import evaluated_weights
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.models import onnx
from ssl_lt.models.expert_classifiers import kind_of_classifier
from ssl_lt.models.export import (
    ABOUT,
    CLASSIFIER,
    RELOAD_TOLERANCE,
    WEIGHTS,
    check_same,
    save_classifier,
    save_for_timm,
)
from ssl_lt.models.tuning.exported import load_exported
from ssl_lt.models.tuning.merge import has_to_stay
from ssl_lt.report.pages.card import model_card
from ssl_lt.report.records.results import RunResult
from ssl_lt.runs.config.export import ExportConfig
from ssl_lt.runs.config.stored import TrainConfig, read_config
from ssl_lt.runs.exporting.card import model_facts, training_facts
from ssl_lt.runs.exporting.network import ExportModules, export_modules
from ssl_lt.runs.exporting.push import check_repository, push
from ssl_lt.runs.inference.facts import Facts, facts_of, read_temperature
from ssl_lt.runs.life.find import find_run
from ssl_lt.runs.life.place import Moved, seen_images
from ssl_lt.runs.life.result import describe_data, stored_result
from ssl_lt.runs.life.saved_run import open_run_data, run_config_of

_CARD = "README.md"
_BATCH_SIZE = 8


def export(config: ExportConfig) -> None:
    """Writes a run's network as a folder that timm loads, with a model card, and pushes it.

    Raises:
        UserError: whatever the user can mend; see `ssl_lt.core.errors`.
    """
    if config.onnx:
        onnx.check_installed()
    if config.push is not None:
        check_repository(config.push)
    run = find_run(config.run)
    output = config.output or run.exported_model
    check_replaceable(output, marker=WEIGHTS, flag="--output")
    result = stored_result(run)
    run_config = run_config_of(run, moved=Moved(), num_workers=0)
    data = open_run_data(run, run_config) if result is None else _remembered(run, result)
    parts = export_modules(run, run_config, data)
    batch = _batch(data.image_size)
    with torch.no_grad():
        expected = parts.trained(batch)
    usage = _usage(run, run_config, data, parts)
    about = to_plain(usage)
    with replace_dir_atomically(output) as folder:
        checks = _write_network(parts, folder, data, batch, expected, about=about)
        if config.onnx:
            checks.append(_write_onnx(parts, folder, batch, expected, about=about))
        facts = model_facts(run, parts, data, config, temperature=usage.temperature, checks=checks)
        card = model_card(
            facts,
            training_facts(run, run_config, data),
            describe_data(data) if result is None else result.data,
            result,
            license=config.license,
        )
        write_text_atomically(folder / _CARD, card)
    for line in checks:
        print(f"checked: {line}")
    print(f"exported: {output.resolve()}")
    if config.push is not None:
        print(f"pushed: {push(output, config.push, private=config.private)}")


def _remembered(run: RunFolder, result: RunResult) -> Data:
    """The data of a finished run without its images: their number, classes, and what is seen."""
    split, counts = read_split(run.split), result.data.counts_per_class
    seen = seen_images(run.exported)
    number = sum(counts) if counts else len(split.indices)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)) if counts else None
    table = PixelTable(
        torch.zeros(number, 3, 1, 1, dtype=torch.uint8),
        torch.full((number,), -1) if labels is None else labels,
    )
    source = Source(split.source, result.data.class_names, table)
    options = replace(read_config(run.config).config.data, **seen)
    return Data(source, replace(split, counts_per_class=counts), table, options)


def _batch(image_size: int) -> Tensor:
    """(B, 3, S, S) of noise, the same each time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(_BATCH_SIZE, 3, image_size, image_size, generator=generator)


def _usage(run: RunFolder, config: TrainConfig, data: Data, parts: ExportModules) -> Facts:
    """What the run knows of its use, for a network that may have another classifier, or none."""
    found = facts_of(config, data)
    if not parts.ends_in_logits:
        return replace(found, log_prior=())
    _, step = evaluated_weights(run.checkpoints)
    kind = None if parts.classifier is None else kind_of_classifier(parts.classifier)
    temperature = read_temperature(run, step=step)
    return replace(found, classifier=kind, temperature=temperature)


def _write_network(
    parts: ExportModules,
    folder: Path,
    data: Data,
    batch: Tensor,
    expected: Tensor,
    *,
    about: Mapping[str, Any],
) -> list[str]:
    """Weights and configuration, read again and compared; says what was found.

    Raises:
        NumericError: what was written does not say what the run's network says.
    """
    names = data.source.class_names if parts.ends_in_logits and parts.classifier is None else ()
    save_for_timm(parts.network, folder, images=data.spec, class_names=names, about=about)
    found = load_exported(folder)
    what = "the network that timm loads" if has_to_stay(found) is None else "the loaded network"
    if parts.classifier is not None:
        save_classifier(parts.classifier, folder)
        last = copy.deepcopy(parts.classifier)
        last.load_state_dict(load_file(folder / CLASSIFIER))
        found, what = nn.Sequential(found, last.eval()), f"{what}, with {CLASSIFIER}"
    with torch.no_grad():
        difference = check_same(found(batch), expected, tolerance=RELOAD_TOLERANCE, what=what)
    return [_check(what, difference, RELOAD_TOLERANCE, len(batch))]


def _write_onnx(
    parts: ExportModules,
    folder: Path,
    batch: Tensor,
    expected: Tensor,
    *,
    about: Mapping[str, Any],
) -> str:
    """The file, run on the batch and on a smaller one.

    Raises:
        ConfigError: the network cannot be written as ONNX.
        NumericError: what was written does not say what the run's network says.
    """
    path, what = folder / onnx.MODEL, f"{onnx.MODEL} in ONNX Runtime"
    output = "logits" if parts.ends_in_logits else "features"
    onnx.save_onnx(parts.exported, path, images=batch, output=output)
    onnx.add_metadata(path, {ABOUT: json.dumps(about), "output": output})
    run = onnx.open_onnx(path)
    differences = [
        check_same(
            run(batch[:size]),
            expected[:size],
            tolerance=onnx.ONNX_TOLERANCE,
            what=f"{what}, {size} images",
        )
        for size in (len(batch), max(1, len(batch) // 3))
    ]
    return _check(what, max(differences), onnx.ONNX_TOLERANCE, len(batch))


def _check(what: str, difference: float, tolerance: float, num_images: int) -> str:
    return (
        f"{what}: differs from the run's network by at most {difference:.1e} of the largest output "
        f"on {num_images} images of noise (allowed: {tolerance:.0e})"
    )
