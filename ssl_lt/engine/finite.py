"""What a step made, and which of it is to blame where it is not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_lt.core.errors import NumericError, shortened
from ssl_lt.core.processes.distributed import gather_objects
from ssl_lt.core.types import StepOutput


@dataclass(frozen=True)
class MicroBatch:
    """One accumulated batch of a step, kept until the step is checked; nothing has a gradient.

    Attributes:
        index: (B,) int64, its samples.
        output: what the task made of it.
    """

    index: Tensor
    output: StepOutput


def mean_of(batches: Sequence[MicroBatch]) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Loss and terms of a whole step: one batch that is not finite is seen in the mean."""
    outputs = [batch.output for batch in batches]
    if len(outputs) == 1:
        return outputs[0].loss, outputs[0].terms
    terms = {
        name: torch.stack([output.terms[name] for output in outputs]).mean()
        for name in outputs[0].terms
    }
    return torch.stack([output.loss for output in outputs]).mean(), terms


def not_finite(step: int, batches: Sequence[MicroBatch], model: nn.Module) -> NumericError:
    """The error of a step that is not finite on some rank; the same on all, which all must call.

    It names the ranks, terms and samples of a loss, or else the parameters of a gradient. A
    gradient has been averaged over the ranks, so that its samples may be those of any rank.
    """
    by_rank = gather_objects("; ".join(filter(None, map(_bad_loss, batches))))
    faults = [
        text if len(by_rank) == 1 else f"process {rank}: {text}"
        for rank, text in enumerate(by_rank)
        if text
    ]
    if not faults:
        samples = gather_objects(_rows(torch.cat([batch.index for batch in batches])))
        faults = [f"{_bad_gradients(model)} is not finite, of samples {' and '.join(samples)}"]
    return NumericError(
        f"step {step}: {'; '.join(faults)}; nothing was updated, the newest checkpoint stays"
    )


def check_weights(step: int, model: nn.Module) -> None:
    """Refuses weights that are not finite, so that no checkpoint holds them; waits for the device.

    Loss and gradients of a step may be finite and its update not: the rate was far too high.

    Raises:
        NumericError: names the parameters.
    """
    named = dict(model.named_parameters())
    fine = torch.stack([weight.detach().isfinite().all() for weight in named.values()])
    bad = [name for name, is_fine in zip(named, fine.tolist(), strict=True) if not is_fine]
    if bad:
        raise NumericError(
            f"step {step}: {shortened(bad)} not finite after the update; is --lr too high? "
            "The newest checkpoint stays"
        )


def _bad_loss(batch: MicroBatch) -> str:
    """`loss nan (contrast), samples 3, 17`, or nothing where the loss is finite."""
    output, index = batch.output, batch.index
    if output.loss.isfinite():
        return ""
    terms = [name for name, value in output.terms.items() if not value.isfinite()]
    if output.losses is not None and not output.losses.isfinite().all():
        # Partners that images are mixed with stand behind them.
        index = index[: len(output.losses)][~output.losses.isfinite()]
    named = f" ({', '.join(terms)})" if terms else ""
    return f"loss {output.loss.item():g}{named}, samples {_rows(index)}"


def _bad_gradients(model: nn.Module) -> str:
    """Of the parameters; each may be finite and only the sum of all squares not."""
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    names = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
    if not names:
        return "the norm of all gradients together"
    return f"the gradient of {shortened(names)}"


def _rows(index: Tensor) -> str:
    return shortened([str(row) for row in index.tolist()])
