"""What a step would take on 1 to 1,024 GPUs: computed from counts and assumptions, run nowhere.

Weak scaling: every GPU adds its own batch. The assumptions stand at the top and are printed.
Measured were how many kernels Sinkhorn launches (tests/engine/step_counts.json) and its time on a
CPU at two shapes, which `fit_sinkhorn` takes apart into launches and bytes.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from typing import Literal

MB, GB = 1e6, 1e9


@dataclass(frozen=True)
class Machine:
    """Assumed; a GPU of about an A100's size."""

    gpus_a_node: int = 8
    inside_bytes_a_second: float = 300 * GB  # NVLink, of a GPU
    outside_bytes_a_second: float = 25 * GB  # network, of a node
    memory_bytes_a_second: float = 1500 * GB
    launch_seconds: float = 5e-6
    hop_seconds: float = 5e-6  # latency of a collective, a doubling of the GPUs


@dataclass(frozen=True)
class Training:
    """ResNet-50 at 224 px by default, two views an image."""

    images_a_gpu: int = 64
    views_a_second: float = 2500  # forward and backward, assumed
    parameters: float = 25.6e6
    batch_norms: int = 53
    embedding_dim: int = 128
    clusters: int = 100
    iterations: int = 300  # of Sinkhorn; off a CPU all of them run
    num_samples: int = 1_000_000


@dataclass(frozen=True)
class Step:
    """Seconds by part, and bytes.

    Attributes:
        compute: views, forward and backward pass.
        gradients: their all-reduce; hidden behind the backward pass as far as that lasts.
        small: collectives of a few KB, one after the other: batch norm, is the step finite.
        rows: gathered embeddings, logits and losses, and the embeddings' gradient.
        contrast: NT-Xent of own rows against all.
        sinkhorn: both views of the global batch, on every GPU.
        traffic: bytes that a GPU sends.
        state: bytes that a GPU holds beside network, optimiser and activations.
    """

    compute: float
    gradients: float
    small: float
    rows: float
    contrast: float
    sinkhorn: float
    traffic: float
    state: float

    @property
    def seconds(self) -> float:
        """The whole step: two thirds of computing is the backward pass."""
        exposed = max(0.0, self.gradients - 2 / 3 * self.compute)
        return self.compute + exposed + self.small + self.rows + self.contrast + self.sinkhorn


@dataclass(frozen=True)
class Method:
    """What of a method costs something.

    Attributes:
        views: of an image, through the network.
        twin: SDCLR's second branch.
        remembers: bytes a sample, of a number or so that is gathered for each.
        clusters: harmonization, and whether its prior is kept per sample.
    """

    views: int = 2
    twin: bool = False
    remembers: int = 0
    clusters: Literal["no", "per sample", "streaming"] = "no"


METHODS = {
    "SimCLR": Method(),
    "SDCLR": Method(twin=True, remembers=4),
    "BCL-I": Method(remembers=9),
    "GH, per sample": Method(clusters="per sample"),
    "GH, streaming": Method(clusters="streaming"),
    "RCL (fine-tuning)": Method(views=3),
}
# Kernels of one of Sinkhorn's iterations (measured), passes over the plan in it, bytes of a number.
KERNELS_AN_ITERATION, PASSES, FLOAT = 17.8, 2, 4


def sinkhorn_seconds(
    rows: float, clusters: int, iterations: int, *, launch: float, bandwidth: float
) -> float:
    """Launches plus bytes."""
    moved = PASSES * FLOAT * rows * clusters
    return iterations * (KERNELS_AN_ITERATION * launch + moved / bandwidth)


def fit_sinkhorn() -> tuple[float, float]:
    """Seconds a launch and bytes/s that explain both CPU measurements of docs/performance.md.

    They are 2.7 ms for 77 iterations at 512 x 100 and 80 ms for 93 at 4096 x 1000.
    """
    small, large = (77, 512 * 100, 2.7e-3), (93, 4096 * 1000, 80e-3)
    a1, a2 = (n * KERNELS_AN_ITERATION for n, _, _ in (small, large))
    b1, b2 = (n * PASSES * FLOAT * size for n, size, _ in (small, large))
    determinant = a1 * b2 - a2 * b1
    launch = (small[2] * b2 - large[2] * b1) / determinant
    return launch, determinant / (a1 * large[2] - a2 * small[2])


def collective(num_bytes: float, gpus: int, machine: Machine, *, passes: int) -> float:
    """Seconds of a ring over all GPUs; `passes` 1: all-gather, 2: all-reduce.

    A node's GPUs share its network, which the ring enters and leaves once.
    """
    if gpus == 1:
        return 0.0
    slowest = (
        machine.inside_bytes_a_second
        if gpus <= machine.gpus_a_node
        else machine.outside_bytes_a_second
    )
    latency = machine.hop_seconds * math.log2(gpus) * passes
    return passes * (gpus - 1) / gpus * num_bytes / slowest + latency


def step(method: str, gpus: int, machine: Machine, training: Training) -> Step:
    """One step of a method."""
    chosen = METHODS[method]
    own, everything = training.images_a_gpu, training.images_a_gpu * gpus
    compute = chosen.views * own / training.views_a_second
    weights = FLOAT * training.parameters
    embeddings = 2 * everything * training.embedding_dim * FLOAT
    logits = everything * training.clusters * FLOAT * (chosen.clusters != "no")
    # Forward gathers, backward sums; SDCLR's branches come one after the other.
    layers = training.batch_norms * (1 + chosen.twin)
    layer, flag = (collective(8e3, gpus, machine, passes=passes) for passes in (3, 2))
    # A number and the index of each sample; logits of both views to assign, of one for the prior.
    gathered = everything * 12.0 * (chosen.remembers > 0) + 3 * logits
    # The gradient of the rows is summed over all ranks before each takes its own.
    rows = collective(embeddings, gpus, machine, passes=3)
    rows += collective(gathered, gpus, machine, passes=1) if gathered else 0.0
    similarities = FLOAT * 2 * own * 2 * everything
    assigned = 2 * sinkhorn_seconds(
        everything,
        training.clusters,
        training.iterations,
        launch=machine.launch_seconds,
        bandwidth=machine.memory_bytes_a_second,
    )
    share = (gpus - 1) / gpus
    return Step(
        compute=compute,
        gradients=collective(weights, gpus, machine, passes=2),
        small=layers * layer + flag,
        rows=rows,
        # Written and read a few times, forward and backward.
        contrast=6 * similarities / machine.memory_bytes_a_second,
        sinkhorn=assigned if logits else 0.0,
        traffic=share * (2 * weights + 3 * embeddings + gathered),
        state=3 * similarities
        + chosen.remembers * training.num_samples
        + 5 * training.parameters * chosen.twin  # mask and masked weights
        + FLOAT * training.num_samples * training.clusters * (chosen.clusters == "per sample")
        + 4 * logits,
    )


def table(machine: Machine, training: Training, counts: list[int]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [
        "| method | GPUs | step, ms | of compute | gradients | small | rows | contrast |"
        " Sinkhorn | sent, MB | state, MB |",
        "|---|" + "---:|" * 10,
    ]
    for method in METHODS:
        for gpus in counts:
            s = step(method, gpus, machine, training)
            parts = (s.gradients, s.small, s.rows, s.contrast, s.sinkhorn)
            share = 100 * s.compute / s.seconds
            lines.append(
                f"| {method} | {gpus:,} | {1e3 * s.seconds:.1f} | {share:.0f} % | "
                + " | ".join(f"{1e3 * seconds:.1f}" for seconds in parts)
                + f" | {s.traffic / MB:,.0f} | {s.state / MB:,.0f} |"
            )
    return lines


def main() -> None:
    """Prints the assumptions and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=64, help="images a GPU")
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--iterations", type=int, default=300, help="of Sinkhorn")
    parser.add_argument("--samples", type=int, default=1_000_000, help="in the training set")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64, 1024])
    arguments = parser.parse_args()
    training = replace(
        Training(),
        images_a_gpu=arguments.images,
        clusters=arguments.clusters,
        iterations=arguments.iterations,
        num_samples=arguments.samples,
    )
    machine = Machine()
    launch, bandwidth = fit_sinkhorn()
    print(f"computed, not run on a GPU\n{machine}\n{training}")
    print(f"Sinkhorn on the CPU: {1e6 * launch:.1f} us a launch, {bandwidth / GB:.0f} GB/s\n")
    print("\n".join(table(machine, training, arguments.gpus)))


if __name__ == "__main__":
    main()
