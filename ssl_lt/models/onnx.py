"""A network as an ONNX file, and what ONNX Runtime makes of it.

Needs the extra `onnx`: pip install "ssl_lt[onnx]".
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_lt.core.errors import CheckpointError, ConfigError, first_line

MODEL, OPSET = "model.onnx", 18
# Another library's order of additions; a share of the largest value.
ONNX_TOLERANCE = 1e-4
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_installed() -> None:
    """Raises ConfigError where a package is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f'--onnx: {missing[0]} is not installed: pip install "ssl_lt[onnx]"')


def save_onnx(network: nn.Module, path: Path, *, images: Tensor, output: str) -> None:
    """Writes one file with the weights inside; any number of images a batch.

    Args:
        network: in evaluation mode, on the CPU.
        path: of the file.
        images: (B, 3, S, S), B at least 2; the input is named `images`.
        output: name of what the network gives.

    Raises:
        ConfigError: the network has an operation that torch cannot write.
    """
    printed = io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            torch.inference_mode(mode=False),
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (images,),
                path,
                input_names=["images"],
                output_names=[output],
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except Exception as error:  # the exporter raises almost any kind
        raise ConfigError(f"--onnx: the network cannot be written: {first_line(error)}") from error
    finally:
        logging.disable(logging.NOTSET)


def add_metadata(path: Path, values: Mapping[str, str]) -> None:
    """Writes texts into the file, which `OnnxNetwork.metadata` has again."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(values))
    onnx.save(model, path)


@dataclass(frozen=True, eq=False)
class OnnxNetwork:
    """A file in ONNX Runtime on the CPU.

    Attributes:
        session: of ONNX Runtime.
        metadata: texts of the file.
    """

    session: Any
    metadata: Mapping[str, str]

    def __call__(self, images: Tensor) -> Tensor:
        """The output for (B, 3, S, S) images."""
        (output,) = self.session.run(None, {"images": images.numpy()})
        return torch.from_numpy(output)


def open_onnx(path: Path) -> OnnxNetwork:
    """Opens a file.

    Raises:
        ConfigError: ONNX Runtime is not installed.
        CheckpointError: it is no such file.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise ConfigError(f'{path}: onnxruntime is not installed: pip install "ssl_lt[onnx]"')
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session: Any = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # a class of its own, and others
        raise CheckpointError(f"{path}: cannot be read as ONNX: {first_line(error)}") from error
    return OnnxNetwork(session, dict(session.get_modelmeta().custom_metadata_map))
