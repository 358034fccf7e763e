"""A table of what a network says of images: filled from where it is to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from ssl_lt.core.errors import ConfigError
from ssl_lt.runs.inference.images import NamedImages
from ssl_lt.runs.inference.model import TrainedModel
from ssl_lt.runs.inference.output import Columns, Output, unreadable_list
from ssl_lt.runs.inference.reading import ReadImages
from ssl_lt.runs.life.processes import join_processes


def one_process(verb: str, model: TrainedModel) -> None:
    """Moves the model to the device of this process, which is to be the only one."""
    state = join_processes()
    if state.num_processes > 1:
        raise ConfigError(f"ssl-lt {verb} runs in one process, not in {state.num_processes}")
    if next(model.parameters(), None) is not None:  # ONNX Runtime has its own
        model.to(state.device)


def write_answers(
    output: Output,
    images: NamedImages,
    found: Iterable[tuple[ReadImages, Tensor]],
    columns: Callable[[ReadImages, Tensor], Columns],
    *,
    kind: str,
) -> int:
    """Writes the rows that are missing, and says how many images there are and which lack.

    Args:
        output: the table.
        images: that it has rows of.
        found: `answers` for those from `output.done` on.
        columns: takes a batch and what was found; its rows.
        kind: what the rows are, as in "predictions".

    Returns:
        Number of rows.
    """
    if images.left_out:
        print(f"left out: {images.left_out}", flush=True)
    number = len(images.table)
    if output.done:
        print(f"going on after {output.done:,} of {number:,} images")
    for batch, out in found:
        output.write(columns(batch, out), done=batch.stop, unreadable=batch.unreadable)
    output.finish()
    if output.unreadable:
        listed = unreadable_list(output.path)
        print(f"not read: {len(output.unreadable):,} images, listed with reasons in {listed}")
    number -= len(output.unreadable)
    print(f"{kind} of {number:,} images ({images.what}): {output.path.resolve()}")
    return number
