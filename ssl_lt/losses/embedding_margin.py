"""The embedding regulariser of ELM: pairs keep a margin that is wider for rare classes.

No code of ELM (arXiv:2204.13208) was released, and its equations were not at hand: known are an
adjusted logit loss and, beside it, a contrastive regulariser of the embeddings whose margin grows
towards the tail. What follows is our reading of that, the logit loss's pairwise form with pairs of
embeddings for pairs of logits; it is not claimed to be the paper's equation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_lt.losses.labelled_rows import LabelledRows


def embedding_margin(rows: LabelledRows, log_frequency: Tensor, *, temperature: float) -> Tensor:
    """Pairwise margin loss of each anchor's similarities.

    `R_i = 1/|P_i| sum_{p in P_i} log[1 + sum_{k in N_i} e^Delta_ik e^((z_i.z_k - z_i.z_p) / t)]`
    with `Delta_ik = m_{y_k} - m_{y_i}`; `P_i` are the other keys of the anchor's class, `N_i`
    those of other classes. A positive should so be nearer than a negative by `t Delta_ik`. Other
    than in the rebalanced contrast, positives do not repel each other. An anchor without
    positives or negatives costs 0.

    Args:
        rows: anchors and keys.
        log_frequency: (C,), `m`: the log-prior times the strength of the margin.
        temperature: `t` > 0.

    Returns:
        (A,) losses.
    """
    similarities = (rows.anchors / temperature) @ rows.keys.T
    same_class = rows.same_class()
    positive = same_class.scatter(1, rows.own[:, None], False)  # noqa: FBT003
    margins = log_frequency[rows.key_labels] - log_frequency[rows.labels][:, None]
    repelled = (similarities + margins).masked_fill(same_class, float("-inf"))
    # log(1 + sum of negatives / positive), the sum taken once an anchor.
    pairs = F.softplus(torch.logsumexp(repelled, dim=1, keepdim=True) - similarities)
    return (pairs * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
