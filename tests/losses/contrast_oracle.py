"""The supervised contrastive losses, written from their equations with loops and `math`."""

from __future__ import annotations

import math


def contrast(z, labels, t, *, counts=None, prototypes=None, average=False):
    """Loss of each anchor; `counts` turns RCL on, `prototypes` and `average` turn BCL on.

    Args:
        z: rows, compared as they are.
        labels: class of each row.
        t: temperature.
        counts: training images of each class, or None for 1 each.
        prototypes: row j of class j, keys only, or None.
        average: divide each class's sum by its number of terms.
    """

    def similarity(a, b):
        return sum(float(x * y) for x, y in zip(a, b, strict=True)) / t

    keys = [*z, *(prototypes if prototypes is not None else [])]
    classes = [int(y) for y in labels]
    key_classes = [*classes, *range(len(keys) - len(z))]
    n = [1.0] * (max(key_classes) + 1) if counts is None else [float(c) for c in counts]
    out = []
    for i, y in enumerate(classes):
        denominator = 0.0
        for j in set(key_classes):
            terms = []
            for k, key in enumerate(keys):
                if key_classes[k] == j and k != i:
                    terms.append(math.exp(similarity(z[i], key)))
            if terms:
                denominator += n[j] * sum(terms) / (len(terms) if average else 1)
        total, positives = 0.0, 0
        for p, key in enumerate(keys):
            if p != i and key_classes[p] == y:
                total -= math.log(n[y] * math.exp(similarity(z[i], key)) / denominator)
                positives += 1
        out.append(total / positives if positives else 0.0)
    return out
