"""`ssl-lt doctor`: versions, device, precision, FAISS, disk, and what is wrong with them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from ssl_lt.core.errors import EXIT_CODES, ConfigError

_PACKAGES = (
    "ssl_lt", "torch", "torchvision", "timm", "lightly", "accelerate", "safetensors", "tyro",
    "scikit-learn", "matplotlib", "faiss-gpu", "faiss-cpu", "tensorboard", "wandb",
)  # fmt: skip
_USAGE = f"""usage: ssl-lt doctor

Prints versions, device, bf16, FAISS, disk; and what is wrong. Exit code 1 if anything is.

{EXIT_CODES}"""
_OPTIONAL = ("faiss-gpu", "faiss-cpu", "tensorboard", "wandb")


@dataclass(frozen=True)
class Check:
    """One line of the doctor's page: `problem` is empty where all is well."""

    name: str
    value: str
    problem: str = ""


def findings(root: Path) -> list[Check]:
    """Everything the doctor looks at; `root` is where runs would be written."""
    return [
        Check("python", f"{platform.python_version()} on {platform.platform()}"),
        *_versions(),
        *_devices(),
        _faiss(),
        _disk(root),
        *_environment(),
    ]


def main(arguments: list[str]) -> int:
    """Prints the findings; exit code 1 if any of them is a problem."""
    if arguments in (["--help"], ["-h"]):
        print(_USAGE, end="")
        return 0
    if arguments:
        raise ConfigError(f"doctor: takes no arguments, got {arguments[0]!r}")
    found = findings(Path("runs"))
    width = max(len(finding.name) for finding in found)
    for finding in found:
        mark = "!" if finding.problem else " "
        print(f"{mark} {finding.name:<{width}}  {finding.value}")
        if finding.problem:
            print(f"  {'':<{width}}  -> {finding.problem}")
    problems = sum(bool(finding.problem) for finding in found)
    print("nothing is wrong" if not problems else f"{problems} to look at")
    return min(problems, 1)


def _versions() -> list[Check]:
    lines = []
    for package in _PACKAGES:
        try:
            lines.append(Check(package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            problem = "" if package in _OPTIONAL else "not installed: pip install -e ."
            lines.append(Check(package, "absent", problem))
    return lines


def _devices() -> list[Check]:
    import torch

    from ssl_lt.core.precision import computes_bf16

    if torch.cuda.is_available():
        device = torch.device("cuda")
        count = torch.cuda.device_count()
        name = f"{count} x {torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}"
    else:
        device = torch.device("cpu")
        name = f"CPU, {torch.get_num_threads()} threads of {os.cpu_count()} processors"
    bf16 = computes_bf16(device)
    return [
        Check("device", name),
        Check("bf16", "in hardware, the default" if bf16 else "not in hardware: fp32"),
        _vision(),
    ]


def _vision() -> Check:
    """The compiled half of torchvision refuses a torch it was not built for."""
    import torch

    try:
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, RuntimeError) as error:
        problem = f"does not fit this torch: {str(error).splitlines()[0]}"
        return Check("torchvision operators", "fail", problem)
    return Check("torchvision operators", "work")


def _faiss() -> Check:
    installed = [name for name in ("faiss-gpu", "faiss-cpu") if _is_installed(name)]
    problem = "both are installed and overwrite each other: uninstall one" * (len(installed) > 1)
    try:
        import faiss
    except (ImportError, RuntimeError) as error:
        return Check("faiss", "fails", f"{error}")
    has_gpu = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
    where = "GPU index" if has_gpu else "CPU index"
    return Check("faiss", f"{faiss.__version__} ({', '.join(installed)}): {where}", problem)


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _disk(root: Path) -> Check:
    place = root if root.exists() else Path.cwd()
    free_gib = shutil.disk_usage(place).free / 2**30
    problem = "less than 2 GiB are free for runs" if free_gib < 2 else ""
    if not os.access(place, os.W_OK):
        problem = f"{place.resolve()} may not be written"
    return Check("disk", f"{free_gib:.0f} GiB free in {place.resolve()}", problem)


def _environment() -> list[Check]:
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is None:
        return []
    return [Check("OMP_NUM_THREADS", threads)]
