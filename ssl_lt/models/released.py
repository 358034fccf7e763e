"""Released weights by name: which network they are of, what images they expect, and their file."""

from __future__ import annotations

import contextlib
import difflib
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

from ssl_lt.core.errors import ConfigError

TIMM, HUB, LOCAL = "timm:", "hf-hub:", "local-dir:"
_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# Of a model's arguments in config.json: what `--image-size` and the classifier say instead.
_OWN_ARGUMENTS = {"img_size", "num_classes", "pretrained", "in_chans"}


@dataclass(frozen=True)
class ReleasedModel:
    """A network that somebody has trained.

    Attributes:
        name: as it was asked for.
        backbone: timm's name of the network, with the tag of the weights where there is one.
        arguments: of timm's model, beside those that follow from the images.
        images: what it expects: "image-size", "mean", "std", "interpolation", "crop-pct".
        license: tag such as "apache-2.0"; "" where none is known.
        folder: with the weights; None: they are on a hub.
        repository: on the hub; None: they are at `url`, or in `folder`.
        filename: in the repository, where it is none of the usual ones.
        url: where timm gets them from, for models without a repository.
    """

    name: str
    backbone: str
    arguments: Mapping[str, Any]
    images: Mapping[str, Any]
    license: str
    folder: Path | None = None
    repository: str | None = None
    filename: str | None = None
    url: str | None = None

    def file(self) -> Path:
        """The file with the weights; downloaded if it is not there yet.

        Raises:
            ConfigError: it can neither be found nor downloaded.
        """
        if self.folder is not None:
            for filename in _WEIGHTS:
                if (self.folder / filename).is_file():
                    return self.folder / filename
            raise ConfigError(f"--init-from: {self.folder} holds none of {', '.join(_WEIGHTS)}")
        if self.repository is not None:
            return _from_hub(self.name, self.repository, self.filename)
        assert self.url is not None
        return _from_url(self.name, self.url)


def find_released(name: str) -> ReleasedModel:
    """What a name with one of the prefixes stands for.

    Args:
        name: `timm:NAME[.TAG]`, `hf-hub:ORG/NAME` or `local-dir:PATH`.

    Raises:
        ConfigError: there is no such model, it has no released weights, or it cannot be reached.
    """
    if name.startswith(TIMM):
        return _of_timm(name)
    if name.startswith(HUB):
        repository = name.removeprefix(HUB)
        config = _from_hub(name, repository, _CONFIG)
        return _of_config(name, config, repository=repository)
    return released_folder(Path(name.removeprefix(LOCAL)), name=name)


def released_folder(folder: Path, *, name: str) -> ReleasedModel:
    """A folder with `config.json` and weights, as timm and `ssl-lt export` write it.

    Raises:
        ConfigError: there is none.
    """
    if not (folder / _CONFIG).is_file():
        raise ConfigError(f"--init-from: {folder} has no {_CONFIG}, so it is no exported model")
    return _of_config(name, folder / _CONFIG, folder=folder)


def timm_names() -> list[str]:
    """`timm:NAME` of every network with released weights, without their tags."""
    from timm.models import list_models

    return [TIMM + name for name in {n.partition(".")[0] for n in list_models(pretrained=True)}]


def usual_images(backbone: str) -> dict[str, Any]:
    """What timm says that the released weights of a network expect; empty for our own ones.

    Raises:
        ConfigError: a tag that none of them has.
    """
    from ssl_lt.models.backbones import OUR_BACKBONES, released_cfg

    config = None if backbone in OUR_BACKBONES else released_cfg(backbone)
    return {} if config is None else images_of(config.to_dict())


def _of_timm(name: str) -> ReleasedModel:
    from timm.models import get_pretrained_cfg, list_models, list_pretrained

    import ssl_lt.models.backbones  # noqa: F401  registers ours

    model = name.removeprefix(TIMM)
    architecture, _, _ = model.partition(".")
    try:
        config = get_pretrained_cfg(model) if architecture in list_models() else None
    except RuntimeError:  # no such tag
        config = None
    if config is None:
        near = difflib.get_close_matches(model, [*list_pretrained(), *list_models()], n=3)
        raise ConfigError(
            f"--init-from: timm has no {model}" + (f"; near: {', '.join(near)}" if near else "")
        )
    if not config.has_weights:
        near = [other for other in list_pretrained() if other.split(".")[0] == architecture]
        raise ConfigError(
            f"--init-from: timm has no released weights of {model}; it has "
            f"{', '.join(near) or 'none of this network'}"
        )
    values = config.to_dict()
    return ReleasedModel(
        name,
        model,
        {},
        images_of(values),
        str(config.license or ""),
        repository=config.hf_hub_id,
        filename=config.hf_hub_filename,
        url=config.url,
    )


def _of_config(
    name: str, path: Path, *, folder: Path | None = None, repository: str | None = None
) -> ReleasedModel:
    try:
        content = json.loads(path.read_text())
        values = content.get("pretrained_cfg", content)
        backbone = content["architecture"]
        arguments = dict(content.get("model_args") or {})
    except (ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"--init-from: {path}: not a model of timm ({error!r})") from error
    return ReleasedModel(
        name,
        str(backbone),
        {key: value for key, value in arguments.items() if key not in _OWN_ARGUMENTS},
        images_of(values),
        str(values.get("license") or ""),
        folder=folder,
        repository=repository,
    )


def images_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What `timm.data.resolve_model_data_config` takes from it, as flags."""
    found: dict[str, Any] = {}
    if "input_size" in config:
        found["image-size"] = int(config["input_size"][-1])
    for key in ("mean", "std"):
        if key in config:
            found[key] = [float(value) for value in config[key]]
    found["interpolation"] = "bilinear" if config.get("interpolation") == "bilinear" else "bicubic"
    if config.get("crop_pct"):
        found["crop-pct"] = float(config["crop_pct"])
    return found


def _from_hub(name: str, repository: str, filename: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
    )

    candidates = (filename,) if filename else _WEIGHTS
    try:
        for candidate in candidates:  # what is in the cache needs no network
            with contextlib.suppress(LocalEntryNotFoundError):
                return Path(hf_hub_download(repository, candidate, local_files_only=True))
        if not _resolves(ENDPOINT):  # which the hub's own client would try for half a minute
            raise _unreachable(name)
        for candidate in candidates:
            with contextlib.suppress(RemoteEntryNotFoundError):
                return Path(hf_hub_download(repository, candidate))
    except LocalEntryNotFoundError as error:
        raise _unreachable(name) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ConfigError(f"--init-from: {name}: {str(error).splitlines()[0]}") from error
    raise ConfigError(f"--init-from: {repository} holds none of {filename or ', '.join(_WEIGHTS)}")


def _from_url(name: str, url: str) -> Path:
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except OSError as error:
            raise _unreachable(name) from error
    return path


def _resolves(url: str) -> bool:
    """Whether the host has an address; a proxy would know, so then it is not asked."""
    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlparse(url).hostname, None)
    except OSError:
        return False
    return True


def _unreachable(name: str) -> ConfigError:
    return ConfigError(
        f"--init-from: {name} is not in the cache and cannot be downloaded from here; where there "
        "is a network, save its weights to a file, then --init-from FILE --backbone NAME"
    )
