"""Where a backbone's weights come from: a run, an exported folder, a file, or nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from ssl_lt.core.errors import CheckpointError, ConfigError
from ssl_lt.data.options import DataOptions
from ssl_lt.engine.checkpoints.checkpoint import newest_weights
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.models.options import ModelOptions
from ssl_lt.models.weights import WeightsReport, load_backbone_weights
from ssl_lt.runs.config.schema import flags
from ssl_lt.runs.config.stored import read_config
from ssl_lt.runs.life.find import RUNS, newest_run


@dataclass(frozen=True)
class InitSource:
    """What a fine-tuning starts from.

    Attributes:
        name: what is written into the configuration: a path, or "scratch".
        weights: file with the backbone, None from scratch.
        values: flags of the run it comes from that this one takes over: its data and network.
        note: a line for the user.
    """

    name: str
    weights: Path | None
    values: dict[str, Any]
    note: str


def find_source(init_from: str) -> InitSource:
    """Resolves `--init-from`.

    Raises:
        ConfigError: nothing is there.
        CheckpointError: a run without a valid checkpoint.
    """
    if init_from == "scratch":
        return InitSource("scratch", None, {}, "from scratch")
    if init_from == "auto":
        run = newest_run(["pretrain"])
        if run is None:
            note = f"no pretraining run under {RUNS}/: training from scratch"
            return InitSource("scratch", None, {}, note)
        return _of_run(run)
    path = Path(init_from)
    if (path / "config.yaml").is_file():
        return _of_run(RunFolder(path))
    if (path / "model.safetensors").is_file():
        path = path / "model.safetensors"
    if not path.is_file():
        raise ConfigError(f"--init-from: {init_from} is no run, exported folder or weights file")
    return InitSource(init_from, path, {}, f"from {path}")


def load_weights(backbone: nn.Module, source: InitSource) -> WeightsReport | None:
    """Loads the backbone in place; None from scratch.

    Experts that start from a plain network take from it what they share.

    Raises:
        CheckpointError: too few tensors match, or some have another shape.
        ConfigError: experts of a plain network would stay as they were drawn.
    """
    if source.weights is None:
        return None
    try:
        return load_backbone_weights(backbone, source.weights)
    except CheckpointError:
        shared = getattr(backbone, "shared_part", None)
        if shared is None:
            raise
    report = load_backbone_weights(shared(), source.weights)
    if not any(parameter.requires_grad for parameter in backbone.parameters()):
        raise ConfigError(f"--freeze-backbone: {source.name} has no experts that could be frozen")
    return report


def load_classifier(classifier: nn.Module, source: InitSource) -> None:
    """Loads the classifier of a fine-tuned run in place.

    Raises:
        ConfigError: what one starts from is no run.
        CheckpointError: it has no classifier, or one of another shape.
    """
    if source.weights is None or not (Path(source.name) / "config.yaml").is_file():
        raise ConfigError(f"--init-classifier: {source.name} is no fine-tuned run")
    start = "classifier."
    saved = {
        name.removeprefix(start): tensor
        for name, tensor in load_file(source.weights).items()
        if name.startswith(start)
    }
    target = classifier.state_dict()
    if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in target.items()}:
        raise CheckpointError(
            f"--init-classifier: {source.name} has no classifier of the same kind and classes"
        )
    classifier.load_state_dict(saved)


def _of_run(run: RunFolder) -> InitSource:
    weights, step = newest_weights(run.checkpoints)
    taken = {flag.name for options in (DataOptions(), ModelOptions()) for flag in flags(options)}
    stored = read_config(run.config).values
    values = {name: value for name, value in stored.items() if name in taken}
    return InitSource(str(run.path), weights, values, f"from {run.path}, step {step}")
