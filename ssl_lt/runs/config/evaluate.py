"""The typed configuration of `evaluate.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ssl_lt.core.checks import check_at_least
from ssl_lt.core.options import Flat
from ssl_lt.evaluate.protocol_options import ProtocolOptions


@dataclass(frozen=True)
class EvaluateConfig:
    """Judge a run on the balanced test split: kNN, linear probe, its classifier; make a report."""

    run: str = "auto"
    """Folder of the run; auto: the newest one under runs/."""
    protocols: Flat[ProtocolOptions] = field(default_factory=ProtocolOptions)
    random_init: bool = False
    """Also judge the same backbone with its initial, untrained weights."""
    map_images: int = 2000
    """Test images on the page's map of features (t-SNE, ten seconds of one core); 0: no map."""
    batch_size: int = 512
    """Images a forward pass."""
    data_root: str | None = None
    """Where the data is now, if it has moved since the run."""
    num_workers: int = 4
    """Processes that decode a folder too large for memory."""

    def __post_init__(self) -> None:
        check_at_least(self, {"map_images": 0, "batch_size": 1, "num_workers": 0})
