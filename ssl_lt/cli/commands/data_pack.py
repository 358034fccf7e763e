"""`ssl-lt data pack`: any source as parquet or tar shards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssl_lt.cli.config.command_line import read_simple
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.progress import watched
from ssl_lt.data.curate.opened import open_whole
from ssl_lt.data.curate.pack import INDEX, Shard, digest, open_output, pack, plan_shards
from ssl_lt.data.curate.pack_writers import Sample
from ssl_lt.data.options import SourceFlags

_USAGE = "ssl-lt data pack SOURCE OUT [OPTIONS]"


@dataclass(frozen=True)
class PackConfig(SourceFlags):
    """Pack a source into shards: ssl-lt data pack SOURCE OUT [flags].

    Images stay the bytes they are; pixels that have no file become PNGs. Stopped and given again,
    the command checks the shards that are finished and goes on; the bytes are the same as if it had
    not been stopped. Nothing is held out of the training images.
    """

    output: Path | None = None
    """Folder to write: OUT."""
    format: Literal["parquet", "tar"] = "parquet"
    """parquet: read with --data hf:OUT, or pushed to the hub; tar: shards of WebDataset."""
    images_per_shard: int = 10_000
    """Images of each file; the last may have fewer."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of range."""
        super().__post_init__()
        if self.images_per_shard < 1:
            raise ConfigError(f"--images-per-shard {self.images_per_shard}: must be 1 or more")


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    config = read_simple(arguments, PackConfig(), usage=_USAGE, positional=("--data", "--output"))
    if config is None:
        return 0
    output = config.output
    if output is None:
        raise ConfigError("--output: no folder given; ssl-lt data pack SOURCE OUT")
    opened = open_whole(config)
    plan = plan_shards(
        opened.parts,
        container=config.format,
        source=opened.source.name,
        class_names=opened.source.class_names,
        images_per_shard=config.images_per_shard,
    )
    finished = open_output(output, plan)
    if finished:
        print(f"{len(finished)} of {len(plan.shards)} shards are finished and unharmed", flush=True)

    def watch(shard: Shard, samples: Iterable[Sample]) -> Iterable[Sample]:
        return watched(samples, total=shard.samples, words=f"packing {shard.file}")

    done = pack(opened.parts, plan, output, finished=finished, watch=watch)
    size = sum(shard.bytes for shard in done.values()) / 2**20
    images = sum(shard.samples for shard in done.values())
    print(f"{images:,} images in {len(done)} shards, {size:,.1f} MiB, SHA-256 {digest(done)}")
    print(f"index: {(output / INDEX).resolve()}")
    return 0
