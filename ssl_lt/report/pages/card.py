"""The model card of an exported network: what it is, was trained on, and can do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from ssl_lt.core.disk.yaml_file import write_yaml
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
    task = "image-classification" if facts.is_classifier else "image-feature-extraction"
    head = {
        "library_name": "timm",
        "pipeline_tag": task,
        "tags": [task, "timm", "long-tailed", *(["onnx"] if facts.onnx_note else [])],
    }
    tables = [] if result is None else summary_tables([result])
    return _template().render(
        facts=facts,
        data=data,
        counts=data.counts_per_class,
        evaluations=() if result is None else result.evaluations,
        tables="\n".join(map(to_markdown, tables)).rstrip(),
        head=write_yaml(head),
        training=training,
        command=command,
    )


@cache
def _template() -> Template:
    """Markdown: nothing is escaped for HTML, and `md` escapes for Markdown."""
    folder = FileSystemLoader(Path(__file__).parent)
    templates = Environment(
        loader=folder, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    templates.filters["md"] = markdown_text
    return templates.get_template("card.md")
