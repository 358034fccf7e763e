"""From a pretraining configuration to its networks, view, plug-ins and method."""

from __future__ import annotations

from torch import nn

from ssl_lt.augment.views import ContrastiveView
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.types import View
from ssl_lt.data.dataset import Data
from ssl_lt.models.backbones import build_backbone
from ssl_lt.models.heads import projector
from ssl_lt.models.pruned_twin import is_transformer
from ssl_lt.pretrain.parts import TwoViewParts
from ssl_lt.pretrain.registry import METHODS, PLUGINS, PluginSite
from ssl_lt.pretrain.two_views import TwoViewTask
from ssl_lt.runs.build.views import view_options
from ssl_lt.runs.config.pretrain import PretrainConfig


def build_task(config: PretrainConfig, data: Data, *, epochs_before: int = 0) -> TwoViewTask:
    """The task; initial weights follow from the seed.

    Args:
        config: of the run.
        data: what it trains on.
        epochs_before: that an extended run has trained.

    Raises:
        ConfigError: a backbone or a plug-in that does not go with the rest.
    """
    if config.fit.grad_checkpointing and config.method == "sdclr":
        raise ConfigError(
            "--grad-checkpointing: --method sdclr runs the backbone with pruned weights, which are "
            "gone when it is run again"
        )
    backbone, num_features = build_backbone(
        config.model,
        image_size=data.image_size,
        seed=config.run.seed,
        drop_path=config.fit.drop_path,
    )
    _freeze_patch_embed(backbone, config)
    site = PluginSite(
        num_samples=len(data.train),
        embedding_dim=config.projector.output_dim,
        total_epochs=epochs_before + config.fit.num_epochs,
        seed=config.run.seed,
    )
    parts = TwoViewParts(
        backbone,
        projector(num_features, config.projector),
        build_view(config, data),
        [PLUGINS[name].build(config.options, site) for name in config.plugins],
        num_samples=len(data.train),
    )
    return METHODS[config.method].build(parts, config.methods, config.run.seed)


def _freeze_patch_embed(backbone: nn.Module, config: PretrainConfig) -> None:
    """Section 4.2 of MoCo v3 (arXiv:2104.02057): a random patch embedding trains stably.

    Raises:
        ConfigError: it is asked for and the network has none.
    """
    asked, embedding = config.freeze_patch_embed, getattr(backbone, "patch_embed", None)
    if not isinstance(embedding, nn.Module):
        if asked != "auto":
            raise ConfigError(
                f"--freeze-patch-embed: {config.model.backbone} has no patch embedding"
            )
        return
    usual = config.init_from == "scratch" and is_transformer(backbone)
    if asked == "on" or (asked == "auto" and usual):
        embedding.requires_grad_(requires_grad=False)


def build_view(config: PretrainConfig, data: Data) -> View:
    """SimCLR's view, or that of the plug-in that sets its strength."""
    options = view_options(config.view, data)
    for name in config.plugins:
        if (boosted := PLUGINS[name].view) is not None:
            return boosted(config.options, options, data.spec)
    return ContrastiveView(options, data.spec)
