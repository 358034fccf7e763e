"""The network of a run as others get it: for timm where that is possible, and as it was trained."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import nn

from ssl_lt.data.dataset import Data
from ssl_lt.engine.checkpoints.run_folder import RunFolder
from ssl_lt.models.export import with_classifier
from ssl_lt.models.tuning.merge import merged
from ssl_lt.runs.config.stored import TrainConfig
from ssl_lt.runs.inference.facts import has_classifier
from ssl_lt.runs.life.saved_run import load_network


@dataclass(frozen=True)
class ExportModules:
    """What is exported, in evaluation mode on the CPU.

    Attributes:
        network: for timm: the backbone, with the classifier where it has a place for it; what
            `--tune` inserted is merged.
        classifier: that has to go into a file of its own, or None.
        trained: the network as the run trained it: (B, 3, S, S) -> features or logits.
    """

    network: nn.Module
    classifier: nn.Module | None
    trained: nn.Module

    @property
    def ends_in_logits(self) -> bool:
        """There is a classifier, in whichever place."""
        return self.classifier is not None or bool(getattr(self.network, "num_classes", 0))

    @property
    def exported(self) -> nn.Module:
        """Network and classifier: gives what `trained` gives."""
        if self.classifier is None:
            return self.network
        return nn.Sequential(self.network, self.classifier).eval()


def export_modules(run: RunFolder, config: TrainConfig, data: Data) -> ExportModules:
    """The network of the newest checkpoint.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    saved = load_network(run, config, data)
    backbone = copy.deepcopy(saved.backbone).cpu().eval()
    if saved.task is None or not has_classifier(config):
        return ExportModules(merged(backbone), None, backbone)
    classifier = copy.deepcopy(saved.task.classifier).cpu().eval()
    trained = nn.Sequential(backbone, classifier).eval()
    plain = merged(backbone)
    joined = with_classifier(plain, classifier)
    if joined is None:
        return ExportModules(plain, classifier, trained)
    return ExportModules(joined, None, trained)
