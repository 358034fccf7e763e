"""Two "machines" on the loopback: a launcher and a working folder each, nothing else in common."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NUM_NODES = 2


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def torchrun(node: int, port: int) -> list[str]:
    """Launcher of one node; the nodes find each other by the c10d rendezvous."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", str(NUM_NODES),
        "--nproc_per_node", "1", "--node_rank", str(node), "--rdzv_backend", "c10d",
        "--rdzv_endpoint", f"127.0.0.1:{port}", "--local_addr", "127.0.0.1",
    ]  # fmt: skip


def accelerate_launch(node: int, port: int) -> list[str]:
    """Launcher of one node, by the file for two, with one process on each."""
    return [
        sys.executable, "-m", "accelerate.commands.launch",
        "--config_file", str(ROOT / "configs/accelerate/2_nodes.yaml"),
        "--num_processes", str(NUM_NODES), "--machine_rank", str(node),
        "--main_process_ip", "127.0.0.1", "--main_process_port", str(port),
    ]  # fmt: skip


class Nodes:
    """`VERB.py WORDS...`, one process on each node.

    Args:
        place: gets a folder for each node to work in: node-0, node-1.
        launcher: `torchrun` or `accelerate_launch`.
        words: the script and its flags.
        environment: besides that of this process.
    """

    def __init__(self, place: Path, launcher, *words: str, **environment: str) -> None:
        port = free_port()
        self.folders = [place / f"node-{number}" for number in range(NUM_NODES)]
        self._started = []
        for number, folder in enumerate(self.folders):
            folder.mkdir(exist_ok=True)
            self._started.append(
                subprocess.Popen(
                    [*launcher(number, port), *words],
                    cwd=folder,
                    env={
                        **os.environ,
                        "OMP_NUM_THREADS": "1",
                        "PYTHONPATH": str(ROOT),
                        **environment,
                    },
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )

    def wait(self, *, seconds: float = 200) -> list[tuple[int, str]]:
        """Exit code and all that was said, of each node."""
        try:
            said = [process.communicate(timeout=seconds)[0] for process in self._started]
        finally:
            for process in self._started:
                process.kill()
        return [(p.returncode, text) for p, text in zip(self._started, said, strict=True)]
