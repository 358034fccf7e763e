"""The typed configuration of `ssl-lt export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExportConfig:
    """Write a run's network for others: ssl-lt export [RUN] [flags].

    The folder loads with timm.create_model("local-dir:FOLDER", pretrained=True) and has a model
    card. It is put in place after its answers on a batch of noise were found to be those of the
    run's network. Of a finished run the data need not be there.
    """

    run: str = "auto"
    """Folder of a pretrained or fine-tuned run; auto: the newest one under runs/."""
    output: Path | None = None
    """Folder to write; none: exported-model/ in the run's folder. An earlier export is replaced."""
    onnx: bool = False
    """Also write model.onnx (needs the extra onnx)."""
