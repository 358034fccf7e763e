"""The model card of an exported network: what it is, was trained on, and can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from ssl_lt.report.records.results import DataDescription, RunResult
from ssl_lt.report.tables.export import markdown_text, to_markdown
from ssl_lt.report.tables.summary import summary_tables

_TIMM = """```python
import timm

model = timm.create_model("local-dir:/path/to/this/folder", pretrained=True).eval()
```"""
_OURS = """```python
import timm, ssl_lt.models.backbones

model = timm.create_model("local-dir:/path/to/this/folder", pretrained=True).eval()
```"""


@dataclass(frozen=True)
class ModelFacts:
    """What the card says of the network itself.

    Attributes:
        name: of the run.
        architecture: timm's name.
        needs_import: the name is registered by importing ssl_lt.
        output: what it gives for an image, such as "10 logits".
        is_classifier: it ends in logits.
        classifier_note: how to use a classifier in a file of its own; empty without.
        images: what it expects of images; one item a line.
        onnx_note: of the ONNX file; empty without.
        checks: what was compared before the folder was put in place.
        note: such as that training was not finished; may be empty.
    """

    name: str
    architecture: str
    needs_import: bool
    output: str
    is_classifier: bool
    classifier_note: str
    images: tuple[str, ...]
    onnx_note: str
    checks: tuple[str, ...]
    note: str = ""


def model_card(
    facts: ModelFacts,
    data: DataDescription,
    result: RunResult | None,
    *,
    training: str,
    command: str,
) -> str:
    """The text of README.md.

    Args:
        facts: of the network.
        data: the training set.
        result: with the measured numbers; None where nothing was measured yet.
        training: method and verb, a sentence.
        command: that trained it.
    """
    what = f"A `{facts.architecture}` that gives {facts.output} for an image."
    sections = [
        _head(facts),
        f"# {markdown_text(facts.name)}",
        f"{what} {markdown_text(training)}",
        *([f"**{markdown_text(facts.note)}**"] if facts.note else []),
        _loading(facts),
        _trained_on(data),
        _numbers(result),
        "## Checked before it was written\n\n" + _list(facts.checks),
        # Indented, not fenced: no text in it can end the block.
        "## Command\n\n" + "\n".join(f"    {line}" for line in command.splitlines() or [""]),
        _limits(data, result),
    ]
    return "\n\n".join(section.rstrip("\n") for section in sections) + "\n"


def _head(facts: ModelFacts) -> str:
    task = "image-classification" if facts.is_classifier else "image-feature-extraction"
    head = {
        "library_name": "timm",
        "pipeline_tag": task,
        "tags": [task, "timm", "long-tailed", *(["onnx"] if facts.onnx_note else [])],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---"


def _loading(facts: ModelFacts) -> str:
    parts = ["## Loading"]
    if facts.needs_import:
        parts += [
            f"`{facts.architecture}` is no network of timm's own: importing `ssl_lt` registers it.",
            _OURS,
            "`model.safetensors` is its state dict, under the keys of timm's ResNets.",
        ]
    else:
        parts += ["With plain timm:", _TIMM]
    if facts.classifier_note:
        parts.append(facts.classifier_note)
    if facts.onnx_note:
        parts.append(facts.onnx_note)
    parts.append("What it expects of images:\n\n" + _list(facts.images))
    return "\n\n".join(parts)


def _trained_on(data: DataDescription) -> str:
    counts = data.counts_per_class
    lines = [markdown_text(data.source)]
    if counts:
        lines.append(
            f"{len(counts):,} classes of {max(counts):,} to {min(counts):,} images; in order of "
            f"the classes: {', '.join(map(str, counts))}"
        )
    else:
        lines.append("no labels")
    lines.append(f"SHA-256 of the rows that were trained on: `{data.split_sha256}`")
    return "## Trained on\n\n" + _list(lines)


def _numbers(result: RunResult | None) -> str:
    if result is None or not result.evaluations:
        return "## Results\n\nNot evaluated yet."
    tables = "\n".join(to_markdown(table) for table in summary_tables([result]))
    notes = [
        f"{markdown_text(e.name)}: {markdown_text(e.note)}" for e in result.evaluations if e.note
    ]
    intro = (
        "On the test split; accuracy is the mean over classes. Nothing was chosen on that split."
    )
    return "\n\n".join(["## Results", intro, tables.rstrip(), _list(notes)])


def _limits(data: DataDescription, result: RunResult | None) -> str:
    lines = [
        "It was judged on the data set it was trained on, at one image size, and nowhere else.",
        "No licence is given here; that of the training images may bind what is made from them.",
    ]
    if result is not None and result.evaluations:
        first = result.evaluations[0]
        worst = markdown_text(data.class_names[first.accuracy.worst_class])
        lines.insert(
            0,
            f"Classes with few training images are recognised worse than the mean says; the worst "
            f"({markdown_text(first.name)}) is {worst}, with {100 * first.accuracy.worst:.1f} %.",
        )
    return "## Limits\n\n" + _list(lines)


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
