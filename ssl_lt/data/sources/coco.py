"""`coco:FILE`: images, categories and annotations in JSON, as COCO, iNaturalist and LILA do it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ssl_lt.core.errors import DataError, shortened
from ssl_lt.data.options import SourceOptions
from ssl_lt.data.sources.columns import NO_LABELS, SPLIT_NAMES
from ssl_lt.data.sources.labels import ONE_CLASS, plain
from ssl_lt.data.sources.listed import Listed, file_table, read_text, root_of
from ssl_lt.data.sources.parts import LeftOut, part_within
from ssl_lt.data.sources.sheet import PartColumns, Sheet, part_columns, source_of_sheet
from ssl_lt.data.sources.source import Source
from ssl_lt.data.tables.boxes import BoxTable
from ssl_lt.data.tables.files import FileTable
from ssl_lt.data.tables.finder import FileFinder

_FILE, _NAME = "file_name", "name"
_KEPT = {"images", "categories", "annotations", "id", "image_id", "category_id", _FILE}
_MOST_PIXELS = 2**30  # of a coordinate
Id = int | str


@dataclass(frozen=True)
class _Coco:
    """What is kept of a file.

    Attributes:
        name: of the source.
        images: fields of each image.
        categories: id -> class name.
        annotations: fields of each annotation.
        fields: names of all fields of images.
    """

    name: str
    images: list[dict[str, Any]]
    categories: dict[Id, str]
    annotations: list[dict[str, Any]]
    fields: tuple[str, ...]


@dataclass(frozen=True)
class _Examples:
    """What is trained or tested on.

    Attributes:
        images: (N,) place of each example's image.
        labels: (N,) class names, None without labels.
        boxes: (N,) left, top, right and bottom; empty where images are taken whole.
        left_out: images or annotations that are no examples.
    """

    images: Sequence[int]
    labels: Sequence[str | None]
    boxes: Sequence[tuple[int, int, int, int]] = ()
    left_out: tuple[LeftOut, ...] = ()


def open_coco(argument: str, options: SourceOptions) -> Source:
    """Lists the images of a COCO file with the one category that each is annotated with.

    Paths are relative to the data root if it is given, else to the folder of the file. Images
    without an annotation are left out, unless none has any: then all are without labels. With
    --crop-boxes each annotation that has a box is an example.

    Args:
        argument: path of `coco:FILE`.
        options: with the data root and the fields.

    Raises:
        ConfigError: the path is a URL.
        DataError: no such file, no JSON, an entry that lacks a field, a category or an image that
            there is not, several categories an image, and what `file_table` says; names the file
            and the entry.
    """
    name = f"coco:{argument}"
    coco = _read(name, read_text(argument, name=name), options)
    place = {_id(image, "id", f"{name}: image number {row + 1}"): row
             for row, image in enumerate(coco.images)}  # fmt: skip
    if len(place) < len(coco.images):
        raise DataError(f"{name}: two images have the same id")
    if options.crop_boxes:
        found = _boxes(coco, place, options)
    elif options.label_column == NO_LABELS or not coco.annotations:
        rows = range(len(coco.images))
        found = _Examples(rows, [None] * len(rows))
    else:
        found = _whole_images(coco, place)
    if not found.images:
        what = "annotation with a box" if options.crop_boxes else "annotated image"
        raise DataError(f"{name}: has no {what}")
    texts = {f: [str(i.get(f, "")) for i in coco.images] for f in coco.fields if f not in _KEPT}
    columns = part_columns(coco.fields, options, name=name, texts=texts)
    if options.crop_boxes:  # what is cut from one image stays together
        columns = PartColumns(columns.split, columns.group or _FILE)
    finder = FileFinder(root_of(argument, options))
    source = source_of_sheet(
        _sheet(coco, found, columns),
        _table(coco, found, finder),
        found.labels,
        columns,
        options,
    )
    unused = sorted({*coco.categories.values()} - {*source.class_names})
    notes = list(source.notes)
    if unused and source.class_names:
        notes.append(f"no image of {shortened(unused)}: no class is made of that")
    return replace(
        source,
        labels_from="the categories" if source.class_names else "it has no annotations",
        left_out=(*source.left_out, *found.left_out),
        notes=(*notes, *finder.notes),
    )


def _read(name: str, text: str, options: SourceOptions) -> _Coco:
    """Parses the file; of each object only what is needed stays in memory."""
    label = options.label_column if options.label_column not in (None, NO_LABELS) else _NAME
    asked = {options.image_column, options.group_column, options.split_column, label}
    kept, fields = _KEPT | asked | ({"bbox"} if options.crop_boxes else set()), dict[str, None]()
    file = options.image_column or _FILE

    def slim(entry: dict[str, Any]) -> dict[str, Any]:
        if file in entry:
            fields.update(dict.fromkeys(entry))
        return {k: v for k, v in entry.items() if k in kept or _may_say_part(k, v)}

    try:
        found = json.loads(text, object_hook=slim)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{name}: is no JSON: {error.msg} ({where})") from error
    except RecursionError as error:
        raise DataError(f"{name}: is no JSON of COCO: nested too deeply") from error
    if not isinstance(found, dict) or not isinstance(found.get("images"), list):
        raise DataError(
            f"{name}: is no JSON of COCO: an object with the lists images, categories and "
            "annotations is expected"
        )
    lists = {key: list(_objects(name, key, found)) for key in ("images", "annotations")}
    for number, image in enumerate(lists["images"], start=1):
        image[_FILE] = _path(image, file, f"{name}: image number {number}")
    categories = _categories(name, [*_objects(name, "categories", found)], str(label))
    return _Coco(name, lists["images"], categories, lists["annotations"], tuple(fields))


def _may_say_part(field: str, value: Any) -> bool:
    is_word = isinstance(value, str)
    return field.lower() in SPLIT_NAMES or (is_word and part_within(value)[0] is not None)


def _objects(name: str, key: str, found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    entries = found.get(key, [])
    if not isinstance(entries, list):
        raise DataError(f"{name}: {key} is no list")
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            raise DataError(f"{name}: number {number} of {key} is no object")
        yield entry


def _id(entry: Mapping[str, Any], key: str, where: str) -> Id:
    value = entry.get(key)
    if not isinstance(value, int | str):
        raise DataError(f"{where}: has no {key}")
    return value


def _path(image: Mapping[str, Any], field: str, where: str) -> str:
    path = image.get(field)
    if not isinstance(path, str) or not path.strip():
        raise DataError(f"{where}: has no {field}")
    if "\0" in path or path != path.encode("utf-8", "ignore").decode():
        raise DataError(f"{where}: {path!a} is no path")
    return path


def _categories(name: str, categories: list[dict[str, Any]], field: str) -> dict[Id, str]:
    """Id -> what a field says, by default the name, or else the id."""
    found: dict[Id, str] = {}
    if field != _NAME and not any(field in category for category in categories):
        raise DataError(f"{name}: its categories have no {field!r} (--label-column)")
    for number, category in enumerate(categories, start=1):
        where = f"{name}: category number {number}"
        key = _id(category, "id", where)
        if key in found:
            raise DataError(f"{where}: has the id {key!r} of another")
        value = category.get(field)
        if value is None and field != _NAME:
            raise DataError(f"{where}: has no {field} (--label-column)")
        found[key] = sys.intern(plain(" ".join(str(key if value is None else value).split())))
    return found


def _labelled(
    coco: _Coco, place: Mapping[Id, int], *, labels: bool
) -> Iterator[tuple[str, int, str | None]]:
    """Where each annotation stands, for errors; its image's place; and its class."""
    for number, annotation in enumerate(coco.annotations, start=1):
        where = f"{coco.name}: annotation {annotation.get('id', f'number {number}')!r}"
        image = _id(annotation, "image_id", where)
        if image not in place:
            raise DataError(f"{where}: there is no image {image!r}")
        label = None
        if labels:
            category = _id(annotation, "category_id", where)
            if category not in coco.categories:
                file = coco.images[place[image]][_FILE]
                raise DataError(f"{where} of {file}: there is no category {category!r}")
            label = coco.categories[category]
        yield where, place[image], label


def _whole_images(coco: _Coco, place: Mapping[Id, int]) -> _Examples:
    """Each annotated image once."""
    labels: dict[int, str | None] = {}
    several: dict[int, str | None] = {}
    for _, row, label in _labelled(coco, place, labels=True):
        if labels.setdefault(row, label) != label:
            several.setdefault(row, label)
    if several:
        row, other = next(iter(several.items()))
        more = f" ({len(several):,} images have several)" if len(several) > 1 else ""
        raise DataError(
            f"{coco.name}: {coco.images[row][_FILE]} has several labels, {labels[row]!r} and "
            f"{other!r}{more}: {ONE_CLASS}; --crop-boxes makes an example of each box"
        )
    rows = sorted(labels)
    left = len(coco.images) - len(rows)
    left_out = (LeftOut("images", "without annotation", left),) if left else ()
    return _Examples(rows, [labels[row] for row in rows], left_out=left_out)


def _boxes(coco: _Coco, place: Mapping[Id, int], options: SourceOptions) -> _Examples:
    """Each annotation with a box."""
    has_labels = options.label_column != NO_LABELS
    found = list[tuple[int, tuple[int, int, int, int], str | None]]()
    without = 0
    labelled = _labelled(coco, place, labels=has_labels)
    for annotation, (where, row, label) in zip(coco.annotations, labelled, strict=True):
        box = _box(annotation.get("bbox"), options.crop_margin, where)
        if box is None:
            without += 1
        else:
            found.append((row, box, label))
    found.sort(key=lambda example: example[0])  # the boxes of an image in the order of the file
    left_out = (LeftOut("annotations", "without a box", without),) if without else ()
    images, boxes, labels = zip(*found, strict=True) if found else ((), (), ())
    return _Examples(images, labels, boxes, left_out)


def _box(bbox: Any, margin: float, where: str) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom in whole pixels, with its margin; None: there is no area."""
    if bbox is None or bbox == []:
        return None
    numbers = isinstance(bbox, list) and all(type(value) in (int, float) for value in bbox)
    if not numbers or len(bbox) != 4 or not all(abs(value) < _MOST_PIXELS for value in bbox):
        raise DataError(f"{where}: its bbox is not left, top, width and height")
    left, top, width, height = bbox
    if width <= 0 or height <= 0:
        return None
    return (
        max(0, math.floor(left - margin * width)),
        max(0, math.floor(top - margin * height)),
        math.ceil(left + width + margin * width),
        math.ceil(top + height + margin * height),
    )


def _sheet(coco: _Coco, found: _Examples, columns: PartColumns) -> Sheet:
    """The fields of images that say parts and groups, one row an example."""

    def texts(field: str) -> list[str]:
        values = (coco.images[row].get(field) for row in found.images)
        return ["" if v is None else sys.intern(str(v).strip()) for v in values]

    fields = {field: texts(field) for field in columns.kept}
    return Sheet(coco.name, fields, [row + 1 for row in found.images], unit="image number")


def _table(coco: _Coco, found: _Examples, finder: FileFinder) -> FileTable:
    """The files, or the boxes in them, in the order of the examples."""
    used, where = np.unique(np.asarray(found.images, dtype=np.int64), return_inverse=True)
    listed = [Listed(row + 1, coco.images[row][_FILE], None) for row in used.tolist()]
    files = file_table(coco.name, finder, listed, unit="image number")
    if not found.boxes:
        return files  # in their order already
    boxes = np.array(found.boxes, dtype=np.int32)
    unknown = torch.full((len(boxes),), -1)
    return BoxTable(files.root, files.names[where], unknown, boxes=boxes)
