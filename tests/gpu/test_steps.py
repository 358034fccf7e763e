"""Methods, plug-ins and losses take the step on a GPU that they take on a CPU, without waiting."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from tests.engine.test_step_counts import FINETUNING, PRETRAINING
from tests.gpu.steps import CPU, CUDA, assert_alike, no_waiting, on, step, taken

pytestmark = pytest.mark.gpu
CASES = [
    *(("pretraining", name) for name in PRETRAINING),
    *(("finetuning", name) for name in FINETUNING),
]
every = pytest.mark.parametrize(("stage", "name"), CASES, ids=[name for _, name in CASES])


@cache
def expected(stage, name):
    return taken(CPU, stage, name)


@pytest.fixture
def exact():
    """Convolutions and products in fp32 itself."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@every
def test_fp32_equals_the_cpu(stage, name, exact):
    found = taken(CUDA, stage, name)
    assert_alike(found, expected(stage, name), loss=2e-3, direction=2e-2)


@every
def test_bf16_is_near_the_cpu(stage, name):
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("a GPU without bf16")
    found = taken(CUDA, stage, name, dtype=torch.bfloat16)
    assert_alike(found, expected(stage, name), loss=0.1, direction=0.2)


@pytest.mark.parametrize("name", FINETUNING)
def test_fp16_is_near_the_cpu(name):
    found = taken(CUDA, "finetuning", name, dtype=torch.float16, scale=1024.0)
    assert_alike(found, expected("finetuning", name), loss=0.1, direction=0.2)


@every
def test_the_host_does_not_wait(stage, name):
    task, batch = on(CUDA, stage, name)
    for _ in range(2):  # what is made once, such as handles of libraries, may wait
        step(task, batch)
    torch.cuda.synchronize()
    with no_waiting():
        step(task, batch)


@pytest.mark.parametrize(
    ("stage", "name"), [("pretraining", "sdclr+bcl+gh"), ("finetuning", "rcl")]
)
def test_compiled_takes_the_same_step(stage, name, exact):
    task, batch = on(CUDA, stage, name)
    loss = torch.compile(task)(batch).loss
    loss.backward()
    assert float(loss) == pytest.approx(expected(stage, name).loss, rel=2e-3)
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)
