"""`ssl-lt data pack`: any source as tar shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_lt.cli.config.command_line import read_simple
from ssl_lt.core.checks import check_at_least
from ssl_lt.core.errors import ConfigError
from ssl_lt.core.options import option
from ssl_lt.data.curate.pack import digest, open_output, pack, plan_shards
from ssl_lt.data.options import WholeSourceOptions
from ssl_lt.data.remote.tar_index import INDEX
from ssl_lt.data.sources.registry import open_complete

_USAGE = "ssl-lt data pack SOURCE OUT [OPTIONS]"


@dataclass(frozen=True)
class PackConfig(WholeSourceOptions):
    """Pack a source into tar shards for --data wds:OUT: ssl-lt data pack SOURCE OUT [flags].

    Images stay the bytes they are; pixels that have no file become PNGs. Stopped and given again,
    the command checks the shards that are finished and goes on; the bytes are the same as if it had
    not been stopped. Nothing is held out of the training images.
    """

    output: Path | None = option(None, group="output")
    """Folder to write (OUT)."""
    images_per_shard: int = option(10_000, group="output")
    """Number of images of each file; the last may have fewer."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of range."""
        super().__post_init__()
        check_at_least(self, {"images_per_shard": 1})


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see `--help`."""
    config = read_simple(arguments, PackConfig(), usage=_USAGE, positional=("--data", "--output"))
    if config is None:
        return 0
    output = config.output
    if output is None:
        raise ConfigError("--output: no folder given; ssl-lt data pack SOURCE OUT")
    if config.value_range:
        raise ConfigError(
            "--value-range: images stay the bytes they are; give it where the shards are read"
        )
    if config.group_column is not None or config.group_pattern is not None:
        raise ConfigError(
            "--group-column, --group-pattern: shards do not say which images belong together"
        )
    source = open_complete(config.data, config)
    layout = plan_shards(
        source.parts,
        source=source.name,
        class_names=source.class_names,
        size=config.images_per_shard,
    )
    finished = open_output(output, layout)
    if finished:
        total = len(layout.shards)
        print(f"{len(finished)} of {total} shards are finished and unharmed", flush=True)
    done = pack(source.parts, layout, output, finished)
    size = sum(shard.bytes for shard in done.values()) / 2**20
    images = sum(shard.samples for shard in done.values())
    print(f"{images:,} images in {len(done)} shards, {size:,.1f} MiB, SHA-256 {digest(done)}")
    print(f"index: {(output / INDEX).resolve()}")
    return 0
