"""The typed configuration of `ssl-lt export`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option

_TAG = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")


@dataclass(frozen=True)
class ExportConfig:
    """Write a run's network for others: ssl-lt export [RUN] [flags].

    The folder loads with timm.create_model("local-dir:FOLDER", pretrained=True) and has a model
    card. It is put in place after its answers on a batch of noise were found to be those of the
    run's network. Of a finished run the data need not be there.
    """

    run: str = option("auto", group="network")
    """Folder of a pretrained or fine-tuned run; auto: the newest one under runs/."""
    output: Path | None = option(None, group="output")
    """Folder to write; none: exported-model/ in the run's folder. An earlier export is replaced."""
    onnx: bool = option(default=False, group="output")
    """Also write model.onnx (needs the extra onnx)."""
    license: str = option("unknown", group="output")
    """License tag of the hub for the model card, such as apache-2.0, cc-by-nc-4.0 or other."""
    push: str | None = option(None, group="hub")
    """Also upload the folder to ORG/NAME on the Hugging Face hub, with the token of `hf auth login`
    or HF_TOKEN. A repository that is not there is made."""
    private: bool = option(default=False, group="hub")
    """Make that repository private; one that is public is refused."""

    def __post_init__(self) -> None:
        if not _TAG.fullmatch(self.license):
            raise ConfigError(
                f"--license: {self.license!r} is no tag of the hub such as apache-2.0 or other"
            )
        if self.private and self.push is None:
            raise ConfigError("--private: has no effect without --push")
