"""What of the options of one source is said of another one."""

from __future__ import annotations

from pathlib import Path

from ssl_lt.data.options import DataOptions, for_other_images

COCO = DataOptions(
    "coco:a.json",
    test_data="coco:b.json",
    group_column="burst",
    label_column="none",
    crop_boxes=True,
    crop_margin=0.1,
    value_range=(0, 4095),
    split=Path("split.json"),
    image_size=64,
)


def test_a_source_of_the_same_kind_is_read_alike_and_has_labels():
    assert for_other_images(COCO, "coco:c.json") == DataOptions(
        "coco:c.json",
        group_column="burst",
        crop_boxes=True,
        crop_margin=0.1,
        value_range=(0, 4095),
        image_size=64,
    )


def test_another_kind_is_told_nothing_that_has_no_effect_on_it():
    other = for_other_images(COCO, "folder:photos")
    assert other == DataOptions("folder:photos", value_range=(0, 4095), image_size=64)
    assert for_other_images(COCO, "digits") == DataOptions("digits", image_size=64)
