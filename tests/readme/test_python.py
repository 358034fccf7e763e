"""docs/python.md and the README: what they show in Python runs, and gives the commands' numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from ssl_lt.finetune.registry import LOSSES
from tests.finetune import toy

ROOT = Path(__file__).parents[2]


def blocks(name):
    """Heading and last blocks of Python code of a document."""
    found, heading = [], ""
    text = (ROOT / name).read_text("utf-8")
    for title, code in re.findall(r"^## ([^\n]+)$|^```python\n(.*?)^```", text, flags=re.M | re.S):
        heading = title or heading
        if code:
            found.append((heading, code))
    return found


BLOCKS = blocks("docs/python.md")


@pytest.mark.parametrize(
    ("heading", "code"),
    [
        pytest.param(*block, id=block[0], marks=pytest.mark.slow if "ssl_lt.pretrain" in block[1]
                     or "import Trainer" in block[1] else ())
        for block in BLOCKS
    ],
)  # fmt: skip
def test_every_block_of_the_document_runs(heading, code, empty):
    if "transformers" in code:
        pytest.importorskip("transformers", reason="the example of the Trainer")
    exec(compile(code, f"docs/python.md: {heading}", "exec"), {"__name__": "__main__"})


def test_the_loop_of_the_readme_computes_the_loss_of_finetune():
    ((_, code),) = blocks("README.md")
    task, batch = toy.task("rcl"), toy.batch(0)
    task.on_epoch_start(toy.epoch(0))
    wanted = task(batch).loss
    views = (task.view, task.contrast_view, task.contrast_view)
    x = [task.view_of(batch, view, number=number) for number, view in enumerate(views)]
    scope = {
        "torch": torch,
        "counts": toy.COUNTS,
        "loader": [(x, batch.labels)],
        "backbone": task.backbone,
        "classifier": task.classifier,
        "head": task.head,
        "optimizer": torch.optim.SGD(task.parameters(), lr=0.1),
    }
    exec(code, scope)
    torch.testing.assert_close(scope["loss"], wanted, rtol=1e-6, atol=1e-6, check_dtype=False)
    assert LOSSES["rcl"].options().tau == 1.3


def test_every_public_loss_is_in_the_document():
    from ssl_lt import losses

    text = (ROOT / "docs/python.md").read_text("utf-8").replace("`...", "`ClassBalanced")
    assert not [name for name in losses.__all__ if name not in text]
