"""The model card of an exported network: what it is, was trained on, and can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from ssl_lt.core.disk.yaml_file import write_yaml
from ssl_lt.core.groups import leading_rule
from ssl_lt.report.records.results import DataDescription, RunResult
from ssl_lt.report.tables.export import markdown_text, to_markdown
from ssl_lt.report.tables.summary import summary_tables


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
        has_adapters: timm cannot load it by itself.
        note: such as that training was not finished; may be empty.
        temperature: of the logits, and what it was fitted on; empty where none was.
        repository: ORG/NAME on the hub that the folder is pushed to; may be empty.
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
    has_adapters: bool = False
    note: str = ""
    temperature: str = ""
    repository: str = ""


@dataclass(frozen=True)
class TrainingFacts:
    """What the card says of how the network was trained.

    Attributes:
        summary: a sentence.
        recipe: method, epochs, network and the like; one item a line.
        started_from: as `RunResult.started_from`.
        command: that trained it.
        datasets: those on the hub that it was trained on.
    """

    summary: str
    recipe: tuple[str, ...]
    started_from: Mapping[str, str]
    command: str
    datasets: tuple[str, ...] = ()


def model_card(
    facts: ModelFacts,
    training: TrainingFacts,
    data: DataDescription,
    result: RunResult | None,
    *,
    license: str,
) -> str:
    """The text of README.md.

    Args:
        facts: of the network.
        training: of the run.
        data: the training set.
        result: with the measured numbers; None where nothing was measured yet.
        license: tag of the hub.
    """
    task = "image-classification" if facts.is_classifier else "image-feature-extraction"
    head = {
        "license": license,
        "library_name": "timm",
        "pipeline_tag": task,
        "tags": [task, "timm", "long-tailed", *(["onnx"] if facts.onnx_note else [])],
        **({"datasets": list(training.datasets)} if training.datasets else {}),
    }
    tables = [] if result is None else summary_tables([result])
    return _template().render(
        facts=facts,
        data=data,
        counts=data.counts_per_class,
        evaluations=() if result is None else result.evaluations,
        tables="\n".join(map(to_markdown, tables)).rstrip(),
        largest_first=sorted(enumerate(data.counts_per_class), key=lambda pair: -pair[1]),
        tested=_tested(result),
        head=write_yaml(head),
        training=training,
        start=training.started_from,
        license=license,
    )


def _tested(result: RunResult | None) -> str:
    """Classes and test images behind each group of the rule that tables lead with; may be empty."""
    if result is None or not result.evaluations:
        return ""
    accuracy = result.evaluations[0].accuracy
    rule = leading_rule(accuracy.groups)
    groups = next((g for g in result.data.groups if g.rule == rule), None)
    if groups is None:
        return ""
    images = accuracy.num_test_per_class
    told = (
        f"{name} {len(classes):,} classes with {sum(images[c] for c in classes):,} test images"
        for name, classes in groups
    )
    return f"Groups {rule}: {', '.join(told)}."


@cache
def _template() -> Template:
    """Markdown: nothing is escaped for HTML, and `md` escapes for Markdown."""
    folder = FileSystemLoader(Path(__file__).parent)
    templates = Environment(
        loader=folder, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    templates.filters["md"] = markdown_text
    return templates.get_template("card.md")
