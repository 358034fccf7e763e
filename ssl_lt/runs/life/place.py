"""Where the data of a run is now: where it was, below a folder that moved, or as is said anew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ssl_lt.core.errors import ConfigError, DataError
from ssl_lt.data.dataset import Data
from ssl_lt.data.options import DataOptions, for_other_images
from ssl_lt.data.sources.columns import NO_LABELS
from ssl_lt.data.sources.registry import open_complete, open_source
from ssl_lt.data.splits.images import read_images, what_changed
from ssl_lt.data.splits.split import read_split
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.models.released import released_folder
from ssl_lt.runs.config.evaluate import READING
from ssl_lt.runs.config.stored import read_config

_PATHS = {"folder", "csv", "list", "coco", "hf", "wds"}  # what follows the colon may be a path
_LISTS = {"csv", "list", "coco"}  # whose paths are relative to the data root
_ROOTED = {"cifar10", "cifar100", "folder"}  # without a path, these are in the data root
_WILD = re.compile(r"[{*]")


@dataclass(frozen=True)
class Moved:
    """Where a verb is told that the data of a run is now, and how this machine reads it.

    Attributes:
        data: the source, as for `--data`; None: the run's own.
        data_root: a folder that it is in; None: the run's own.
        reading: other options of `DataOptions` by which this machine reads it; no accuracy depends
            on them. Those that are not there are the run's own.
    """

    data: str | None = None
    data_root: str | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def said(cls, options: DataOptions) -> Moved:
        """What the flags of a command that judges a run say; the default is the run's own."""
        data = None if options.data == DataOptions.data else options.data
        said = {name: getattr(options, name) for name in READING}
        reading = {name: v for name, v in said.items() if v != getattr(DataOptions, name)}
        return cls(data, options.data_root, reading)

    def of(self, options: DataOptions) -> DataOptions:
        """The options of a run with what is told."""
        told = {"data": self.data, "data_root": self.data_root}
        values: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
        return replace(options, **values, **self.reading)


def located(run: RunFolder, options: DataOptions) -> DataOptions:
    """The options of a run's data, with paths that hold in this working directory.

    What is as the run has it is looked for where the run was started, below the folder that it has
    moved with, and here. A data root that is another one is searched first.

    Args:
        run: on disk.
        options: of the run, or with another source or root.
    """
    stored = read_config(run.config)
    was, places = stored.config.data, [*stored.directories, Path.cwd()]
    root = None if options.data_root in (None, was.data_root) else Path(str(options.data_root))
    values: dict[str, Any] = {}
    for name in ("data", "test_data", "val_data"):
        source = getattr(options, name)
        if source is None or source != getattr(was, name):
            continue  # said anew, as seen from here
        moved = None if root is None else _below(root, source, is_main=name == "data")
        values[name] = _at(source, places) if moved is None else moved
        if moved is not None and name == "data" and source.partition(":")[0] in _LISTS:
            values["data_root"] = None if was.data_root is None else str(root)
    if root is None:
        is_rooted = options.data.partition(":")[0] in _ROOTED
        text = options.data_root or ("data" if is_rooted else None)
        values["data_root"] = _path_at(text, places) if text else None
        if values["data_root"] == text:
            values["data_root"] = options.data_root
    for name in ("split", "test_split"):
        if (path := getattr(options, name)) is not None:
            values[name] = Path(_path_at(str(path), places))
    return replace(options, **values)


def check_unchanged(run: RunFolder, data: Data) -> None:
    """Says which images of a run that goes on differ, where they have names.

    Raises:
        DataError: some were added, are gone, or have another class or size.
    """
    was = read_images(run.images)
    now = None if was is None else data.images
    if changed := what_changed(was, now):
        raise DataError(
            f"{run.path}: {data.source.name} has other images than this run began with: {changed}"
        )


def is_data_of(run: RunFolder, data: str) -> bool:
    """Whether a source has the images that a run was trained on, wherever it is.

    Not of a run that left their labels aside, which others may want to read.
    """
    own = located(run, read_config(run.config).config.data)
    if own.label_column == NO_LABELS or data == own.data:
        return own.label_column != NO_LABELS
    options = replace(own, data=data)
    split = read_split(run.split)
    opened = open_source if options.test_split is None else open_complete
    try:
        table = opened(data, options).train
    except (ConfigError, DataError):  # with the columns of the run other data may not go together
        return False
    return len(table) == split.num_rows and table.fingerprint() == split.data_sha256


def moved_options(run: RunFolder, moved: Moved) -> DataOptions:
    """The options of a run's data where it is now, or of the other images that are said.

    Args:
        run: on disk.
        moved: what is said.
    """
    options = located(run, Moved(data_root=moved.data_root).of(read_config(run.config).config.data))
    if moved.data is None or is_data_of(run, moved.data):
        return options
    options = for_other_images(options, moved.data)
    # Which the network sees as it saw the run's own.
    return replace(options, **seen_images(run.exported)) if run.is_finished else options


def seen_images(exported: Path) -> dict[str, Any]:
    """Fields of `DataOptions` that say what the network in an exported folder sees.

    Raises:
        ConfigError: it is no exported folder.
    """
    flags_of = released_folder(exported, name=str(exported)).images
    return {
        flag.replace("-", "_"): tuple(value) if isinstance(value, list) else value
        for flag, value in flags_of.items()
    }


def source_at(run: RunFolder, source: str) -> str:
    """Another source of a run, with paths that hold in this working directory."""
    return _at(source, [*read_config(run.config).directories, Path.cwd()])


def _at(source: str, places: Iterable[Path]) -> str:
    """A source whose relative paths are found from one of the places; as it is, if from none."""
    kind, colon, argument = source.partition(":")
    if kind not in _PATHS or not argument:
        return source
    places = list(places)
    return f"{kind}{colon}" + "::".join(_path_at(text, places) for text in argument.split("::"))


def _path_at(text: str, places: Iterable[Path]) -> str:
    """The path below the first place where there is one; as it is where that is here."""
    if "://" in text or text.startswith("~") or Path(text).is_absolute():
        return text
    for place in places:
        if _exists(place / text):
            return text if place.absolute() == Path.cwd() else str(place / text)
    return text


def _below(root: Path, source: str, *, is_main: bool) -> str | None:
    """The source in a folder that the data has moved to; None where it is not there."""
    kind, _, argument = source.partition(":")
    if kind not in _PATHS or not argument or "://" in argument or "::" in argument:
        return None
    names = [Path(argument).name]
    if not Path(argument).is_absolute():
        names.insert(0, argument)
    found: Sequence[Path] = [root / name for name in names]
    if is_main and kind == "folder":  # the folder itself, under another name
        found = [*found, root]
    there = next((path for path in found if _exists(path)), None)
    return None if there is None else f"{kind}:{there}"


def _exists(path: Path) -> bool:
    """Whether a file or folder is there; of a pattern, the folder it is in."""
    text = str(path)
    if (wild := _WILD.search(text)) is not None:
        text = text[: wild.start()].rpartition("/")[0]
    return Path(text).exists()
