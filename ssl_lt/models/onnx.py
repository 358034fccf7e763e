"""A network as an ONNX file, and what ONNX Runtime makes of it.

Needs the extra `onnx`: pip install "ssl_lt[onnx]".
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ssl_lt.core.errors import ConfigError

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
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"--onnx: the network cannot be written: {reason}") from error
    finally:
        logging.disable(logging.NOTSET)


def run_onnx(path: Path, images: Tensor) -> Tensor:
    """What ONNX Runtime gives for (B, 3, S, S) images, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"images": images.numpy()})
    return torch.from_numpy(output)
