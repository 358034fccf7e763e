"""`folder:PATH`: class sub-folders, or one flat folder without labels."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ssl_lt.core.disk.files import exists
from ssl_lt.core.disk.urls import local_path
from ssl_lt.core.errors import DataError, short_path, shortened
from ssl_lt.core.progress import track
from ssl_lt.data.images.listing import Listing, list_images, loose_images, sub_folders
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.labels import check_no_combinations, plain
from ssl_lt.data.sources.parts import HELD, LeftOut, Parts, find_parts, part_of, part_within
from ssl_lt.data.sources.source import Source, with_part
from ssl_lt.data.tables.files import FileTable


def open_folder(argument: str, options: SourceOptions) -> Source:
    """Lists the images of a folder.

    Layouts: a training part with a test or a validation part, or both, by their usual names; or
    class sub-folders; or images without labels. Classes are sorted by name; images are found at any
    depth and through links. What is no image is counted.

    Args:
        argument: PATH of `folder:PATH`; empty: the data root.
        options: with the data root.

    Raises:
        ConfigError: the path is a URL.
        DataError: no such folder, no images, images beside class folders, parts but none to train
            on, a test or validation class that has no training images.
    """
    root = local_path(argument, of=f"folder:{argument}") if argument else options.root
    if not (exists(root) and root.is_dir()):
        where = short_path(root)
        raise DataError(f"{where}: no such folder of images (--data folder:PATH or --data-root)")
    name, folders = f"folder:{root}", sub_folders(root)
    parts = find_parts(folders)
    _check_parts(root, folders, parts)
    # Alone, `train` is a part; beside others that are no test part, it is a class of vehicles.
    if parts.train is None or (parts.others and not parts.held):
        _check_no_parts(root, folders)
        source = _list(root, name)
        return replace(source, notes=(*source.notes, *_parts_as_classes(root, folders)))
    inner = _innermost(root, parts.train)
    source = replace(_list(root / inner, name), places={"train": f"{inner}/"})
    for part, folder in parts.held.items():
        folder = _innermost(root, folder)
        place = root / folder
        source = with_part(
            source, part, _unless_dummy(_list(place, str(place)), source), place=f"{folder}/"
        )
    notes = source.notes
    if not parts.held:
        notes += (f"{parts.train}/ stands alone and is taken for the training part, not a class",)
    return replace(source, left_out=source.left_out + _beside(root, parts), notes=notes)


def _check_parts(root: Path, folders: list[str], parts: Parts) -> None:
    twice = [name for name in folders if part_of(name) == "train" and name != parts.train]
    if parts.train and twice:
        raise DataError(f"{root}: has {parts.train}/ and {twice[0]}/: which is trained on?")
    if folders and parts.train is None and all(part_of(name) for name in folders):
        raise DataError(
            f"{root}: has {', '.join(f'{name}/' for name in folders)} and no train/: "
            f"give the folder of one, as folder:{root / folders[0]}"
        )


def _check_no_parts(root: Path, folders: list[str]) -> None:
    """Refuses folders that would be classes by their names and are parts by all signs."""
    alike: dict[str, str] = {}
    inside = {name: tuple(sub_folders(root / name)) for name in folders if part_within(name)[0]}
    for name, classes in inside.items():
        part, is_alone = part_within(name)
        shared = bool(classes) and list(inside.values()).count(classes) > 1
        if part and (is_alone or shared):
            alike.setdefault(part, name)
    if "train" in alike and len(alike) > 1:
        train, other = alike.pop("train"), next(iter(alike.values()))
        raise DataError(
            f"{root}: {train}/ and {other}/ look like parts and not like classes: give --data "
            f"folder:{root / train} --test-data folder:{root / other}, or name them train and test"
        )


def _innermost(root: Path, part: str) -> str:
    """The folder of a part, or the one of the same part in it: archives often have both."""
    inside = sub_folders(root / part)
    if len(inside) == 1 and part_of(inside[0]) == part_of(Path(part).name):
        inner = f"{part}/{inside[0]}"
        if sub_folders(root / inner) and not loose_images(root / part).images:
            return _innermost(root, inner)
    return part


def _parts_as_classes(root: Path, folders: list[str]) -> list[str]:
    return [
        f"{name}/ is taken for a class; if it is a part of the data, give folder:{root / name}"
        for name in folders
        if part_of(name)
    ]


def _unless_dummy(found: Source, source: Source) -> Source:
    """Images without labels where their only folder is there because some folder had to be."""
    unknown = len(found.class_names) == 1 and found.class_names[0] not in source.class_names
    if unknown and len(source.class_names) > 1:
        return replace(found, class_names=())
    return found


def _beside(root: Path, parts: Parts) -> tuple[LeftOut, ...]:
    """Images beside the parts, which belong to none."""
    counts = {f"{name}/": len(list_images(root / name).images) for name in parts.others}
    counts["beside the parts"] = len(loose_images(root).images)
    return tuple(LeftOut("images", place, count) for place, count in counts.items() if count)


def _list(root: Path, name: str) -> Source:
    """Class names (empty when flat) and files, as a source that has nothing else."""
    loose, folders = loose_images(root), sub_folders(root)
    listed = track(folders, total=len(folders), label="listing folders")
    listings = {folder: list_images(root / folder) for folder in listed}
    left_out = list(_left_out("", loose.left_out))
    for folder, listing in listings.items():
        left_out += _left_out(folder, listing.left_out)
    full = [folder for folder in folders if listings[folder].images]
    if full and loose.images:
        raise DataError(
            f"{root}: has both class folders and loose images such as {loose.images[0]}"
        )
    if loose.images:
        notes = (f"no images in {shortened(folders)}: those beside it have no labels",)
        return Source(
            name,
            (),
            _table(root, loose.images, [-1] * len(loose.images)),
            left_out=tuple(left_out),
            notes=notes if folders else (),
        )
    if not full:
        kinds = sorted({one.kind for one in left_out})
        found = f", only {shortened(kinds)}" if kinds else ""
        raise DataError(f"{root}: has no images{found}")
    class_names = tuple(sorted({plain(folder) for folder in full}))
    number_of = {class_name: number for number, class_name in enumerate(class_names)}
    names, labels = [], []
    for folder in sorted(full, key=lambda folder: (plain(folder), folder)):
        names += [f"{folder}/{image}" for image in listings[folder].images]
        labels += [number_of[plain(folder)]] * len(listings[folder].images)
    check_no_combinations([class_names[n] for n in labels], lambda row: f"{root / names[row]}")
    return Source(
        name,
        class_names,
        _table(root, names, labels),
        labels_from="the names of sub-folders",
        left_out=tuple(left_out),
        notes=(*_folder_notes(root, folders, full), *_alike_inside(listings)),
    )


def _folder_notes(root: Path, folders: list[str], full: list[str]) -> list[str]:
    notes = []
    empty = [folder for folder in folders if folder not in full]
    if empty:
        notes.append(f"no images in {shortened(empty)}: no class is made of that")
    spelt = Counter(plain(folder) for folder in full)
    notes += [
        f"{number} folders spell {name!r} in different bytes and are one class"
        for name, number in spelt.items()
        if number > 1
    ]
    if len(full) == 1 and len(inside := sub_folders(root / full[0])) > 1:
        notes.append(
            f"{full[0]}/ has {len(inside)} sub-folders ({shortened(inside)}): if these are the "
            f"classes or parts, give folder:{root / full[0]}"
        )
    return notes


def _alike_inside(listings: dict[str, Listing]) -> list[str]:
    """Class folders with the same sub-folders: these may be the classes, or the parts of each."""
    alike = dict[tuple[str, ...], list[str]]()
    for folder, listing in listings.items():
        inside = {image.partition("/")[0] for image in listing.images if "/" in image}
        alike.setdefault(tuple(sorted(inside)), []).append(folder)
    several = {names: full for names, full in alike.items() if len(names) > 1 and len(full) > 1}
    if not several:
        return []
    folders, full = max(several.items(), key=lambda item: len(item[1]))
    number = len(full)
    text = f"{number} class folders have the same sub-folders ({shortened(folders)})"
    held = [name for name in folders if part_of(name) in HELD]
    if held:
        return [f"warning: {text}: images in {held[0]}/ are trained on like all others"]
    return [f"{text}: if these are the classes, {full[0]}/ and the others are parts of the data"]


def _left_out(place: str, counts: Counter[str]) -> tuple[LeftOut, ...]:
    return tuple(LeftOut(kind, place, count) for kind, count in sorted(counts.items()))


def _table(root: Path, names: list[str], labels: list[int]) -> FileTable:
    return FileTable(root, np.array([os.fsencode(name) for name in names]), torch.tensor(labels))
