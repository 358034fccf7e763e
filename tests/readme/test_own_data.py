"""docs/own_data.md: a hospital's table and JSON of iNaturalist, from the file to the report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.report.records.results import read_results
from tests.readme.reading import commands, split_command
from tests.toolbox import succeed, write_picture

pytestmark = pytest.mark.slow  # they train

TEXT = (Path(__file__).parents[2] / "docs" / "own_data.md").read_text(encoding="utf-8")
TINY = {"pretrain": "--width 4 --batch-size 8 --num-workers 0 --mixed-precision no".split()}
TINY["finetune"] = TINY["pretrain"][2:]
PATIENTS = 16


def follow(section: str) -> tuple[str, Path]:
    """Runs the first three commands of a section; what pretraining printed, and the last run."""
    text = re.search(rf"### `{section}:FILE`\n(.*?)\n### ", TEXT, re.DOTALL)
    block = next(b for b in re.findall(r"```bash\n(.*?)```", text[1], re.DOTALL) if "evaluate" in b)
    said = []
    for command in commands(block):
        verb, words = split_command(command)
        said.append(succeed(verb, *words, *TINY.get(verb, [])).out)
    assert len(said) == 3
    return said[0] + said[1], max(Path("runs").iterdir(), key=lambda path: path.stat().st_mtime)


def report(run: Path):
    found = read_results(RunFolder(run).results)
    assert (run / "report" / "index.html").is_file()
    names = {evaluation.name.partition(",")[0] for evaluation in found.evaluations}
    assert {"classifier", "kNN", "linear probe"} <= names
    return found


def test_a_hospital(empty):
    head = re.search(r"```\n(patient_id,.*)\n", TEXT)[1]
    lines = [head]
    for number in range(3 * PATIENTS):
        patient = number // 3
        write_picture(empty / f"scans/{number:04}.png", number)
        part = "test" if patient % 4 == 3 else "train"
        label = ("healthy", "healthy", "rash")[patient % 3]
        lines.append(f"P{patient:03},scans/{number:04}.png,{label},{part}")
    (empty / "hospital.csv").write_text("\n".join(lines) + "\n")
    said, run = follow("csv")
    assert "groups: train 12, test 4, of 3 to 3 images, column 'patient_id'" in said
    assert "groups are in both" not in said
    found = report(run)
    assert found.data.grouped_by == "column 'patient_id'"
    assert sum(found.data.counts_per_class) == 3 * 10  # a patient of each class is held out
    assert "over groups of test images (column" in (run / "report/index.html").read_text("utf-8")


def test_inaturalist(empty):
    names = ("Turdus merula", "Vulpes vulpes", "Lynx lynx")
    for part, number in (("train", 24), ("val", 9)):
        content = {
            "categories": [{"id": 5 + c, "name": name} for c, name in enumerate(names)],
            "images": [{"id": n, "file_name": f"{part}2018/{n}.png"} for n in range(number)],
            "annotations": [
                {"id": n, "image_id": n, "category_id": 5 + n % 3} for n in range(number)
            ],
        }
        (empty / f"{part}2018.json").write_text(json.dumps(content))
        for n in range(number):
            write_picture(empty / "inat" / f"{part}2018/{n}.png", n + 100 * len(part))
    said, run = follow("coco")
    assert "labels: the categories" in said
    found = report(run)
    assert found.data.class_names == tuple(sorted(names))
    assert sum(found.evaluations[0].accuracy.num_test_per_class) == 9
    assert found.data.grouped_by == found.data.test_groups == ""
