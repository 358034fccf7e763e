"""`ssl-lt doctor`: device, precision, torchvision, FAISS, disk, and what is wrong with them."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from pathlib import Path

import torch

from ssl_lt.core.errors import EXIT_CODES, ConfigError
from ssl_lt.core.precision import computes_bf16
from ssl_lt.data.loading.workers import SHARED_MEMORY, no_shared_memory

_USAGE = f"""usage: ssl-lt doctor

Prints device, bf16, torchvision, FAISS, disk; and what is wrong. Exit code 2 if anything is.
`accelerate env` prints versions and the launcher's configuration.

{EXIT_CODES}"""

_LEAST_SHARED = 512 << 20  # bytes; containers have 64 MiB where nothing was said
Check = tuple[str, str, str]  # name, value, and what is wrong with it: empty where all is well


def main(arguments: list[str]) -> int:
    """Prints the checks; exit code 2 if any of them found a problem."""
    if arguments in (["--help"], ["-h"]):
        print(_USAGE, end="")
        return 0
    if arguments:
        raise ConfigError(f"doctor: takes no arguments, got {arguments[0]!r}")
    checks = [*_device(), _torchvision(), _faiss(), *_shared_memory(), _disk(Path("runs"))]
    for name, value, problem in checks:
        print(f"{'!' if problem else ' '} {name:<12}{value}")
        if problem:
            print(f"  {'':<12}-> {problem}")
    problems = sum(bool(problem) for *_, problem in checks)
    print(f"{problems} to look at" if problems else "nothing is wrong")
    return ConfigError.exit_code if problems else 0


def _device() -> list[Check]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = f"CPU, {torch.get_num_threads()} threads of {os.cpu_count()} processors"
    if device.type == "cuda":
        count = torch.cuda.device_count()
        name = f"{count} x {torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}"
    bf16 = "in hardware, the default" if computes_bf16(device) else "not in hardware: fp32"
    return [("device", name, ""), ("bf16", bf16, "")]


def _torchvision() -> Check:
    """The compiled half of torchvision refuses a torch it was not built for."""
    try:
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, RuntimeError) as error:
        problem = f"does not fit this torch: {str(error).splitlines()[0]}"
        return "torchvision", "operators fail", problem
    return "torchvision", "operators work", ""


def _faiss() -> Check:
    installed = {d.metadata["Name"] for d in importlib.metadata.distributions()}
    found = sorted(installed & {"faiss-gpu", "faiss-cpu"})
    problem = "both are installed and overwrite each other: uninstall one" * (len(found) > 1)
    try:
        import faiss
    except (ImportError, RuntimeError) as error:
        return "faiss", "fails", f"{error}"
    kind = "GPU" if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() else "CPU"
    return "faiss", f"{faiss.__version__} ({', '.join(found)}): {kind} index", problem


def _shared_memory() -> list[Check]:
    if not SHARED_MEMORY.is_dir():
        return []
    total, _, free = shutil.disk_usage(SHARED_MEMORY)
    value = f"{free >> 20:,} of {total >> 20:,} MiB free in {SHARED_MEMORY}"
    return [("memory", value, no_shared_memory() if free < _LEAST_SHARED else "")]


def _disk(root: Path) -> Check:
    place = root if root.exists() else Path.cwd()
    free_gib = shutil.disk_usage(place).free / 2**30
    problem = "less than 2 GiB are free for runs" if free_gib < 2 else ""
    if not os.access(place, os.W_OK):
        problem = f"{place.resolve()} may not be written"
    return "disk", f"{free_gib:.0f} GiB free in {place.resolve()}", problem
