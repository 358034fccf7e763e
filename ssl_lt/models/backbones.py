"""Backbones by name: ours for small pictures, registered with timm, and all of timm's.

Importing this module imports timm, which takes seconds: import it where a network is built.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import timm
import torch
from timm.layers import DropPath
from timm.models import (
    PretrainedCfg,
    build_model_with_cfg,
    generate_default_cfgs,
    register_model,
)
from torch import nn

from ssl_lt.core.errors import CheckpointError, ConfigError, first_line
from ssl_lt.models.cifar.convnet import SMALLEST_IMAGE, ConvNet
from ssl_lt.models.cifar.experts import CifarExperts, SharedGradient
from ssl_lt.models.cifar.network import CifarNetwork, Layout
from ssl_lt.models.cifar.resnet import PaddedShortcut, ResNet, projected_shortcut
from ssl_lt.models.options import ModelOptions
from ssl_lt.models.weights import State

# It warns of every name that it does not use; `WeightsReport` counts them.
logging.getLogger("timm.models._builder").setLevel(logging.ERROR)

_CFG = {
    "input_size": (3, 32, 32),
    "num_classes": 10,
    "crop_pct": 1.0,
    "interpolation": "bicubic",
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2023, 0.1994, 0.2010),
    "first_conv": "conv1",
    "classifier": "fc",
}
_LAYOUTS: dict[str, Layout] = {
    "convnet7_cifar": ConvNet(),
    "resnet18_cifar": ResNet((2, 2, 2, 2), projected_shortcut, "fan_out"),
    "resnet20_cifar": ResNet((3, 3, 3), PaddedShortcut, "fan_in"),
    "resnet32_cifar": ResNet((5, 5, 5), PaddedShortcut, "fan_in"),
}
_WIDTHS = {"convnet7_cifar": 32, "resnet18_cifar": 64, "resnet20_cifar": 16, "resnet32_cifar": 16}
OUR_BACKBONES = tuple(_LAYOUTS)

default_cfgs = generate_default_cfgs(
    {name: dict(_CFG) for name in (*OUR_BACKBONES, "cifar_experts")}
)


def _build(name: str, kwargs: dict[str, Any], *, pretrained: bool) -> CifarNetwork:
    layout = _LAYOUTS[name]
    taps = {"out_indices": tuple(range(1, 1 + len(layout.multiples)))}
    kwargs = {"width": _WIDTHS[name], **kwargs}
    built = build_model_with_cfg(
        partial(CifarNetwork, layout), name, pretrained, feature_cfg=taps, **kwargs
    )
    return cast(CifarNetwork, built)


def resnet18_cifar(pretrained: bool = False, **kwargs: Any) -> CifarNetwork:  # noqa: FBT001, FBT002
    """ResNet-18 with a 3x3 stem: 11.17 M parameters and 512 features at `width=64`.

    Its weights load into timm's and torchvision's `resnet18` key for key; only `conv1` has
    another shape.
    """
    return _build("resnet18_cifar", kwargs, pretrained=pretrained)


def resnet20_cifar(pretrained: bool = False, **kwargs: Any) -> CifarNetwork:  # noqa: FBT001, FBT002
    """ResNet-20 of arXiv:1512.03385, section 4.2: 0.27 M parameters, 64 features at `width=16`."""
    return _build("resnet20_cifar", kwargs, pretrained=pretrained)


def resnet32_cifar(pretrained: bool = False, **kwargs: Any) -> CifarNetwork:  # noqa: FBT001, FBT002
    """ResNet-32 of arXiv:1512.03385, section 4.2: 0.46 M parameters, 64 features at `width=16`."""
    return _build("resnet32_cifar", kwargs, pretrained=pretrained)


def convnet7_cifar(pretrained: bool = False, **kwargs: Any) -> CifarNetwork:  # noqa: FBT001, FBT002
    """`ConvNet`, for few epochs: 1.09 M parameters and 256 features at `width=32`."""
    return _build("convnet7_cifar", kwargs, pretrained=pretrained)


def cifar_experts(
    pretrained: bool = False,  # noqa: FBT001, FBT002
    *,
    of: str = "resnet32_cifar",
    **kwargs: Any,
) -> CifarExperts:
    """`CifarExperts` of one of our networks, three of 3/4 width unless `kwargs` say otherwise."""
    usual = {"num_experts": 3, "expert_width": 0.75, "shared_gradient": "all"}
    built = build_model_with_cfg(
        partial(CifarExperts, _LAYOUTS[of]),
        "cifar_experts",
        pretrained,
        **{"width": _WIDTHS[of], **usual, **kwargs},
    )
    return cast(CifarExperts, built)


# Called and not used as a decorator: timm is untyped, and would take the signatures with it.
for _entry in (convnet7_cifar, resnet18_cifar, resnet20_cifar, resnet32_cifar, cifar_experts):
    register_model(_entry)


def create_backbone(
    name: str,
    *,
    width: int | None = None,
    image_size: int,
    arguments: Mapping[str, Any] | None = None,
    weights: State | None = None,
) -> nn.Module:
    """A network without classifier: (B, 3, S, S) -> (B, feature_dim(network)).

    Args:
        name: one of `OUR_BACKBONES`, or any model of timm, with a tag of its weights or without.
        width: channels of the first stage of one of ours; None means its usual width.
        image_size: S in pixels; transformers need it to lay out their patches.
        arguments: further ones of timm's model.
        weights: tensors that timm converts and loads, as it does with its own; None: drawn.

    Raises:
        ConfigError: an unknown name or tag, a width where there is none to choose or below 1, or a
            picture that the network does not take.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, [*OUR_BACKBONES, *timm.list_models()], n=1)
        hint = f"; nearest valid name: {near[0]}" if near else ""
        raise ConfigError(f"--backbone: unknown name {name!r}{hint}")
    kwargs: dict[str, Any] = dict(arguments or {})
    if width is not None:
        if name not in OUR_BACKBONES:
            raise ConfigError(f"--width: {name} has none; only {', '.join(OUR_BACKBONES)} do")
        kwargs["width"] = width
    _check_sizes(name, width, image_size)
    cfg = released_cfg(name)
    if cfg is not None and cfg.fixed_input_size:
        kwargs["img_size"] = image_size
    if weights is not None:
        # A number of classes that is not the network's: timm then leaves out the file's classifier.
        own = {"state_dict": dict(weights), "custom_load": False, "num_classes": -1}
        kwargs["pretrained_cfg_overlay"] = own
    try:
        built = timm.create_model(name, pretrained=weights is not None, num_classes=0, **kwargs)
        return cast(nn.Module, built)
    except (AssertionError, ValueError, RuntimeError, TypeError) as error:
        raise ConfigError(
            f"--backbone: {name} cannot be built for {image_size} pixels: {first_line(error)}"
        ) from error


def released_cfg(name: str) -> PretrainedCfg | None:
    """What timm says of the released weights of a network; None where it knows none.

    Raises:
        ConfigError: a tag that none of them has.
    """
    try:
        return cast(PretrainedCfg | None, timm.models.get_pretrained_cfg(name))
    except RuntimeError as error:  # no such tag
        model, _, tag = name.partition(".")
        near = difflib.get_close_matches(name, timm.list_pretrained(f"{model}.*"), n=1, cutoff=0)
        hint = f"; nearest: {near[0]}" if near else ""
        raise ConfigError(f"--backbone: {model} has no weights tagged {tag!r}{hint}") from error


def create_experts(
    name: str,
    *,
    width: int | None = None,
    image_size: int,
    num_experts: int,
    expert_width: float,
    shared_gradient: SharedGradient,
) -> CifarExperts:
    """`CifarExperts` of the network that `create_backbone` gives by this name and width.

    Raises:
        ConfigError: a name that is none of `OUR_BACKBONES`, a width below 1, or a picture that the
            network does not take.
    """
    if name not in OUR_BACKBONES:
        raise ConfigError(
            f"--backbone: {name} cannot be split into experts; {', '.join(OUR_BACKBONES)} can"
        )
    _check_sizes(name, width, image_size)
    kwargs: dict[str, Any] = {} if width is None else {"width": width}
    return cast(
        CifarExperts,
        timm.create_model(
            "cifar_experts",
            num_classes=0,
            of=name,
            num_experts=num_experts,
            expert_width=expert_width,
            shared_gradient=shared_gradient,
            **kwargs,
        ),
    )


def _check_sizes(name: str, width: int | None, image_size: int) -> None:
    if width is not None and width < 1:
        raise ConfigError(f"--width: {width}, must be at least 1")
    if name == "convnet7_cifar" and image_size < SMALLEST_IMAGE:
        raise ConfigError(
            f"--backbone: {name} needs images of at least {SMALLEST_IMAGE} pixels, not {image_size}"
        )


def feature_dim(backbone: nn.Module) -> int:
    """Width of the features; some of timm's models widen them after `num_features`."""
    return int(cast(int, getattr(backbone, "head_hidden_size", None) or backbone.num_features))


def build_backbone(
    options: ModelOptions, *, image_size: int, seed: int, drop_path: float = 0.0
) -> tuple[nn.Module, int]:
    """The network and the width of its features; its weights follow from the seed.

    Args:
        options: which network.
        image_size: in pixels.
        seed: of the weights.
        drop_path: rate of stochastic depth at the last block, in training.

    Raises:
        ConfigError: an unknown name, or stochastic depth of a network that has none.
    """
    torch.manual_seed(seed)
    if drop_path:
        options = replace(
            options, model_kwargs=(*options.model_kwargs, f"drop_path_rate={drop_path}")
        )
    try:
        backbone = _of_options(options, image_size)
    except ConfigError as error:
        if drop_path and "drop_path_rate" in str(error):
            raise ConfigError(f"--drop-path: {options.backbone} has no stochastic depth") from error
        raise
    if drop_path and not any(isinstance(part, DropPath) for part in backbone.modules()):
        raise ConfigError(f"--drop-path: {options.backbone} has no stochastic depth")
    return backbone, feature_dim(backbone)


def converted(weights: State, options: ModelOptions, *, image_size: int) -> State:
    """Tensors as the network names and shapes them, by timm's own conversion.

    Names that others use become timm's, and position embeddings are resampled to the image size.

    Args:
        weights: of the same architecture, as a file has them.
        options: the network.
        image_size: in pixels.

    Returns:
        Those tensors of the network that the weights have changed.
    """
    states = []
    with torch.random.fork_rng(devices=[]):
        for given in (None, weights):
            torch.manual_seed(0)
            try:
                states.append(_of_options(options, image_size, given).state_dict())
            # Tensors of another network make the conversions of timm's models fail in many ways.
            except (ConfigError, KeyError, IndexError, AttributeError) as error:
                if given is None:
                    raise
                raise CheckpointError(f"{options.backbone}: {error}") from error
    drawn, loaded = states
    return {name: t for name, t in loaded.items() if not torch.equal(t, drawn[name])}


def _of_options(options: ModelOptions, image_size: int, weights: State | None = None) -> nn.Module:
    return create_backbone(
        options.backbone,
        width=options.width,
        image_size=image_size,
        arguments=options.arguments,
        weights=weights,
    )
