"""What a run leaves behind for the report: `RunResult`, and its file `results.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_lt.core.disk.files import write_text_atomically
from ssl_lt.core.disk.plain import from_plain, read_plain, to_plain
from ssl_lt.core.errors import DataError
from ssl_lt.core.groups import Groups
from ssl_lt.evaluate.geometry.representation import Representation
from ssl_lt.evaluate.scores.confusion import Confusion, from_matrix
from ssl_lt.evaluate.scores.correct_mask import unpack_correct, unpack_groups
from ssl_lt.evaluate.scores.evaluation import Evaluation
from ssl_lt.report.records.curves import Curve

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class DataDescription:
    """The training set.

    Attributes:
        source: name and recipe, as a reader should see it.
        split_sha256: of the split file: equal means the very same images.
        counts_per_class: (C,) training images.
        class_names: (C,).
        groups: one entry a rule; the report leads with that of `leading_groups`.
        grouped_by: what says which images belong together, for people; "" where nothing does.
        test_groups: which test images do, see `pack_groups`; "" where none do.
    """

    source: str
    split_sha256: str
    counts_per_class: tuple[int, ...]
    class_names: tuple[str, ...]
    groups: tuple[Groups, ...]
    grouped_by: str = ""
    test_groups: str = ""


@dataclass(frozen=True)
class Environment:
    """Where a run ran."""

    device: str
    num_processes: int
    num_threads: int
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Timing:
    """How long training took; `images_per_second` counts each image once an epoch."""

    seconds: float
    images_per_second: float | None = None


@dataclass(frozen=True)
class RunResult:
    """One run.

    Attributes:
        name: of the run folder.
        verb: "pretrain", "finetune" or "evaluate".
        method: the pretraining method or the fine-tuning loss.
        plugins: added to the method.
        command: as it was typed.
        data: the training set.
        configuration: the resolved options, plain.
        environment: versions and device.
        evaluations: in the order of the report; the first is the one it leads with.
        curves: "loss", "lr", "knn" and others by name.
        timing: of training; None where nothing was trained.
        representations: measures of the frozen backbone; one entry a backbone that was judged.
        started_from: "weights", "sha256" and "license" of what it began with; of an extended run
            "run", "epochs" so far, "data-sha256" then and "data-sha256-now"; empty from scratch.
        weights: which of the run's weights were evaluated; "" in files from before it was written.
        left_out: name of an evaluation that could not be made -> why.
        schema_version: of the file.
    """

    name: str
    verb: str
    method: str
    plugins: tuple[str, ...]
    command: str
    data: DataDescription
    configuration: Mapping[str, Any]
    environment: Environment
    evaluations: tuple[Evaluation, ...]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    timing: Timing | None = None
    representations: tuple[Representation, ...] = ()
    started_from: Mapping[str, str] = field(default_factory=dict)
    weights: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


def to_json(result: RunResult) -> str:
    """The text of `results.json`."""
    return json.dumps(to_plain(result), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_results(result: RunResult, path: Path) -> None:
    """Writes `results.json`, whole or not at all.

    Raises:
        DiskError: the file cannot be written.
    """
    write_text_atomically(path, to_json(result))


def read_results(path: Path) -> RunResult:
    """Reads what `write_results` wrote.

    Raises:
        DataError: no such file, damaged JSON, another schema, or fields that do not fit; one line
            that names the file.
    """
    plain = read_plain(path, newest=SCHEMA_VERSION)
    try:
        result = from_plain(RunResult, _as_now(plain))
        _check_lengths(result)
        _check_confusions(result)
        _check_answers(result)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    return result


def _as_now(plain: Any) -> Any:
    """Version 1 has a matrix of C x C confusions, and bins of calibrations that no page shows."""
    match plain:
        case {"evaluations": list(evaluations)}:
            for evaluation in evaluations:
                match evaluation:
                    case {"calibration": dict(calibration)}:
                        calibration.pop("bins", None)
                match evaluation:
                    case {"confusion": list(rows)}:
                        evaluation["confusion"] = to_plain(_of_matrix(rows))
    return plain


def _of_matrix(rows: list[Any]) -> Confusion:
    sides = {len(rows), *(len(row) if isinstance(row, list) else 0 for row in rows)}
    if len(sides) > 1:
        raise ValueError("confusion: no square matrix")
    try:
        return from_matrix(rows)
    except TypeError as error:
        raise ValueError("confusion: no matrix of numbers") from error


def _check_lengths(result: RunResult) -> None:
    """Raises ValueError where a per-class list does not have one entry a class."""
    num_classes = len(result.data.class_names)
    lengths = [("data.counts_per_class", len(result.data.counts_per_class))]
    for i, evaluation in enumerate(result.evaluations):
        where, accuracy = f"evaluations[{i}]", evaluation.accuracy
        lengths.append((f"{where}.accuracy.per_class", len(accuracy.per_class)))
        lengths.append((f"{where}.accuracy.num_test_per_class", len(accuracy.num_test_per_class)))
    for name, length in lengths:
        if length != num_classes:
            raise ValueError(f"{name}: {length} entries for {num_classes} classes")
    for c in (c for groups in result.data.groups for _, classes in groups for c in classes):
        if not 0 <= c < num_classes:
            raise ValueError(f"data.groups: no class {c} among {num_classes}")


def _check_confusions(result: RunResult) -> None:
    """Raises ValueError for lists of unequal length, and for classes that there are not."""
    for i, evaluation in enumerate(result.evaluations):
        confusion, where = evaluation.confusion, f"evaluations[{i}].confusion"
        if confusion is None:
            continue
        if not len(confusion.true) == len(confusion.predicted) == len(confusion.images):
            raise ValueError(f"{where}: true, predicted and images differ in length")
        classes = (*confusion.true, *confusion.predicted)
        if classes and not 0 <= min(classes) <= max(classes) < len(result.data.class_names):
            raise ValueError(f"{where}: a class that there is not")
        if min(confusion.images, default=1) < 1:
            raise ValueError(f"{where}.images: fewer than one")


def _check_answers(result: RunResult) -> None:
    """Raises ValueError where answers do not have one bit, or no group, a test image."""
    for i, evaluation in enumerate(result.evaluations):
        if evaluation.answers is None:
            continue
        num_images = sum(evaluation.accuracy.num_test_per_class)
        try:
            unpack_correct(evaluation.answers, num_images=num_images)
            if result.data.test_groups:
                unpack_groups(result.data.test_groups, num_images=num_images)
        except DataError as error:
            raise ValueError(f"evaluations[{i}].{error}") from error
