"""`ssl-lt predict`: the class of each of many images, with its probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.evaluate.scores.temperature import probabilities
from ssl_lt.evaluate.view_ensemble import ViewEnsemble
from ssl_lt.runs.config.inference import PredictConfig
from ssl_lt.runs.inference.calibrate import calibrate_on
from ssl_lt.runs.inference.facts import Facts, Temperature, ensemble_note
from ssl_lt.runs.inference.images import find_images, labelled_images
from ssl_lt.runs.inference.load import load_trained
from ssl_lt.runs.inference.model import TrainedModel, no_classifier
from ssl_lt.runs.inference.output import (
    Columns,
    CsvSink,
    Output,
    PartsSink,
    Sink,
    refuse_complete,
)
from ssl_lt.runs.inference.priors import prior_shift
from ssl_lt.runs.inference.reading import ReadImages, answers
from ssl_lt.runs.inference.tables import check_suffix, join_parquet
from ssl_lt.runs.inference.writing import one_process, write_answers

_DIGITS = 7  # of a probability: as many as float32 has


@dataclass(frozen=True)
class Predictions:
    """What `ssl_lt.predict` has written.

    Attributes:
        path: of the table.
        num_images: rows of it.
        unreadable: name and reason of the images that have no row.
        group_rule: how the classes are grouped.
        temperature: that logits were divided by; None: probabilities are raw.
    """

    path: Path
    num_images: int
    unreadable: tuple[tuple[str, str], ...]
    group_rule: str
    temperature: Temperature | None

    def __fspath__(self) -> str:
        return str(self.path)


def predict(config: PredictConfig) -> Predictions:
    """Classifies images and writes the table.

    Raises:
        UserError: whatever the user can mend; see `ssl_lt.core.errors`.
    """
    check_suffix(config.output, (".csv", ".parquet"))
    refuse_complete(config.output)
    model = load_trained(config.run)
    if not model.has_logits:
        raise ConfigError(no_classifier(model.name))
    facts = model.facts
    if config.top_k > len(facts.class_names):
        raise ConfigError(
            f"--top-k: {config.top_k}, and there are {len(facts.class_names)} classes"
        )
    shift = prior_shift(config.prior, facts)
    beside = [] if config.calibrate_on is None else [config.calibrate_on]
    images = find_images(config.images, facts.decoding, beside=beside)
    one_process("predict", model)
    if note := ensemble_note(config.ensemble, facts):
        print(note, flush=True)
    temperature = _temperature(config, model)
    request = {
        "network": model.sha256(),
        "images": images.table.fingerprint(),
        "number of images": len(images.table),
        "top-k": config.top_k,
        "prior": None if shift is None else shift.tolist(),
        "ensemble": config.ensemble,
        "temperature": None if temperature is None else temperature.value,
    }
    output = Output(config.output, _sink(config), request)
    value = 1.0 if temperature is None else temperature.value

    def columns(batch: ReadImages, logits: Tensor) -> Columns:
        names = [images.table.name(row) for row in batch.rows]
        likely = probabilities(logits, temperature=value, log_shift=shift) if names else logits
        return _columns(names, likely, facts, top_k=config.top_k)

    table, network = images.table, ViewEnsemble(model, config.ensemble)
    found = answers(network, model, table, config.images, first=output.done, label="predicting")
    num_images = write_answers(output, images, found, columns, kind="predictions")
    return Predictions(
        config.output, num_images, tuple(output.unreadable), facts.group_rule, temperature
    )


def column_names(top_k: int) -> list[str]:
    """Of the table; those behind the first class are numbered."""
    more = [f"{name}_{place}" for place in range(2, top_k + 1) for name in ("class", "probability")]
    return ["file", "class", "probability", *more, "group"]


def _columns(names: Sequence[str], likely: Tensor, facts: Facts, *, top_k: int) -> Columns:
    """Of a batch; (n, C) probabilities, or no rows."""
    columns: dict[str, list[Any]] = {name: [] for name in column_names(top_k)}
    if not names:
        return columns
    columns["file"] = list(names)
    values, classes = likely.topk(top_k, dim=1)
    for place in range(top_k):
        end = f"_{place + 1}" if place else ""
        columns[f"class{end}"] = [facts.class_names[c] for c in classes[:, place].tolist()]
        rounded = [float(f"{p:.{_DIGITS}g}") for p in values[:, place].tolist()]
        columns[f"probability{end}"] = rounded
    columns["group"] = [facts.group_of_class[c] for c in classes[:, 0].tolist()]
    return columns


def _temperature(config: PredictConfig, model: TrainedModel) -> Temperature | None:
    """Which one is taken, in a line."""
    if not config.calibrate:
        return None
    found = model.temperature
    if config.calibrate_on is not None:
        images = labelled_images(config.calibrate_on, config.images, model.facts.decoding)
        found = calibrate_on(images, model, config.images, config.ensemble)
    if found is None:
        print(
            "probabilities are raw: no image was held out of training that a temperature could be "
            "fitted on; --calibrate-on SOURCE fits one"
        )
    else:
        print(f"temperature {found.value:.4g}, fitted on {found.num_images:,} {found.images}")
    return found


def _sink(config: PredictConfig) -> Sink:
    names = column_names(config.top_k)
    if config.output.suffix == ".csv":
        return CsvSink(config.output, names)
    return PartsSink(config.output, lambda columns: _to_arrow(columns, names), join_parquet)


def _to_arrow(columns: Columns, names: Sequence[str]) -> Any:
    import pyarrow as pa

    kinds = {name: pa.float32() if name.startswith("prob") else pa.string() for name in names}
    schema = pa.schema(list(kinds.items()))
    return pa.table({name: list(columns[name]) for name in names}, schema=schema)
