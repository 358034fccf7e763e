"""What one has to know to use a trained network, kept beside its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.disk.plain import from_plain, read_plain, to_plain
from ssl_lt.core.errors import DataError
from ssl_lt.core.groups import leading_groups
from ssl_lt.core.precision import Precision
from ssl_lt.core.types import ImageSpec
from ssl_lt.data.dataset import Data
from ssl_lt.data.images.decode import AS_STORED, Decoding
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.evaluate.view_ensemble import Ensemble
from ssl_lt.models.expert_classifiers import ClassifierKind
from ssl_lt.runs.build.prior import logit_log_prior
from ssl_lt.runs.build.views import view_options
from ssl_lt.runs.config.finetune import FinetuneConfig
from ssl_lt.runs.config.stored import TrainConfig

_SCHEMA = 1


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by for calibrated probabilities.

    Attributes:
        value: the temperature.
        images: which it was fitted on, for people.
        num_images: how many.
        step: of the weights; None where these are fixed.
    """

    value: float
    images: str
    num_images: int
    step: int | None = None


@dataclass(frozen=True)
class Facts:
    """How images are prepared for a network, and what its answers mean.

    Attributes:
        images: size, resizing and normalisation.
        decoding: how files become 8 bits.
        precision: that the network was trained in.
        class_names: (C,); empty where there are no labels.
        counts_per_class: (C,) training images.
        group_rule: how classes were grouped.
        group_of_class: (C,) many, medium or few.
        log_prior: (C,) of the prior under which the softmax of plain logits is a posterior; empty
            without a classifier.
        classifier: of a file of its own; None: it is the network's last layer, or there is none.
        temperature: fitted on images that were not trained on; None: there were none.
        is_mirrored: whether some images were mirrored in training.
    """

    images: ImageSpec
    decoding: Decoding = AS_STORED
    precision: Precision = "auto"
    class_names: tuple[str, ...] = ()
    counts_per_class: tuple[int, ...] = ()
    group_rule: str = ""
    group_of_class: tuple[str, ...] = ()
    log_prior: tuple[float, ...] = ()
    classifier: ClassifierKind | None = None
    temperature: Temperature | None = None
    is_mirrored: bool = True
    schema_version: int = _SCHEMA


def facts_of(config: TrainConfig, data: Data) -> Facts:
    """Of a run that trains on the data."""
    counts = data.split.counts_per_class
    facts = Facts(
        data.spec,
        decoding=data.options.decoding,
        precision=config.fit.mixed_precision,
        class_names=data.source.class_names,
        counts_per_class=counts,
        is_mirrored=view_options(config.view, data).flips > 0,
    )
    groups = leading_groups(data.groups)
    if groups is not None:
        of_class = {c: name for name, classes in groups for c in classes}
        names = tuple(of_class[c] for c in range(len(counts)))
        facts = replace(facts, group_rule=groups.rule, group_of_class=names)
    if has_classifier(config):
        assert isinstance(config, FinetuneConfig)
        facts = replace(facts, log_prior=tuple(logit_log_prior(config, counts).tolist()))
    return facts


def has_classifier(config: TrainConfig) -> bool:
    """Whether a run trains one."""
    return isinstance(config, FinetuneConfig) and config.trains_classifier


def ensemble_note(ensemble: Ensemble, facts: Facts) -> str:
    """A line on what will hardly help; "" where nothing is to be said."""
    if ensemble != "flip" or facts.is_mirrored:
        return ""
    return "note: --ensemble flip: training mirrored no image (--view.flip-probability 0)"


def write_facts(run: RunFolder, facts: Facts) -> None:
    """Puts them into the run's folder."""
    write_text_atomically(run.inference, json.dumps(to_plain(facts), indent=1) + "\n")


def read_facts(path: Path) -> Facts:
    """What `write_facts` wrote.

    Raises:
        DataError: the file is damaged, or of a newer version.
    """
    return facts_from(read_plain(path, newest=_SCHEMA), of=str(path))


def facts_from(plain: Any, *, of: str) -> Facts:
    """Of what `to_plain` gave.

    Raises:
        DataError: a value does not fit; names `of`.
    """
    try:
        return from_plain(Facts, plain)
    except ValueError as error:
        raise DataError(f"{of}: {error}") from error


def write_temperature(run: RunFolder, temperature: Temperature) -> None:
    """Puts it into the run's folder."""
    write_text_atomically(run.calibration, json.dumps(to_plain(temperature)) + "\n")


def read_temperature(run: RunFolder, *, step: int) -> Temperature | None:
    """What `write_temperature` wrote; None where there is none of the weights of this step.

    Raises:
        DataError: the file is damaged.
    """
    if not run.calibration.is_file():
        return None
    try:
        found = from_plain(Temperature, read_plain(run.calibration, newest=_SCHEMA))
    except ValueError as error:
        raise DataError(f"{run.calibration}: {error}") from error
    return found if found.step == step else None
