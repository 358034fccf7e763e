import pytest
import torch
from torch import nn

from ssl_lt.core.errors import DataError
from ssl_lt.core.types import Batch
from ssl_lt.evaluate.features.embed import embed_batches
from ssl_lt.evaluate.features.features import gather_features
from tests.distributed.pool import run_on_two


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 3)
        self.bn = nn.BatchNorm2d(5)
        self.formats = []

    def forward(self, x):
        self.formats.append(x.is_contiguous(memory_format=torch.channels_last))
        return self.bn(self.conv(x)).relu().mean(dim=(2, 3))


def batches(index, size=4):
    random = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (20, 3, 8, 8), generator=random, dtype=torch.uint8)
    labels = torch.arange(20) % 3
    for rows in torch.as_tensor(index).split(size):
        yield Batch(images[rows] / 255, labels[rows], rows)


def test_equals_one_image_at_a_time_in_order_of_index():
    backbone = Backbone()
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    found = embed_batches(backbone, batches(order))
    backbone.eval()
    with torch.no_grad():
        for row, batch in enumerate(batches(range(20), size=1)):
            expected = backbone(batch.images)[0]
            torch.testing.assert_close(found.features[row], expected, rtol=1e-5, atol=1e-6)
    assert found.index.tolist() == list(range(20))
    assert found.labels.tolist() == [i % 3 for i in range(20)]
    assert found.features.dtype == torch.float32
    assert not found.features.is_inference()
    assert backbone.formats[0]


def test_repeated_images_count_once():
    found = embed_batches(Backbone(), batches([3, 1, 2, 0, 1, 3]))
    assert found.index.tolist() == [0, 1, 2, 3]


def test_modes_come_back_as_they_were():
    backbone = Backbone().train()
    backbone.bn.eval()
    embed_batches(backbone, batches(range(4)))
    assert backbone.training
    assert backbone.conv.training
    assert not backbone.bn.training
    broken = (Batch(b.images[:, :2], b.labels, b.index) for b in batches(range(4)))
    with pytest.raises(RuntimeError):
        embed_batches(backbone, broken)
    assert backbone.training


def test_running_statistics_stay():
    backbone = Backbone().train()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    embed_batches(backbone, batches(range(20)))
    for key, value in backbone.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_a_backbone_that_changes_is_caught():
    class Restless(Backbone):
        def forward(self, x):
            self.bn.running_mean += 1e-6
            return super().forward(x)

    with pytest.raises(AssertionError, match="changed"):
        embed_batches(Restless(), batches(range(4)))


def test_a_weight_that_changes_is_caught():
    class Learning(Backbone):
        def forward(self, x):
            with torch.inference_mode():
                self.conv.weight.data.add_(1e-5)
            return super().forward(x)

    with pytest.raises(AssertionError, match="changed"):
        embed_batches(Learning(), batches(range(4)))


def test_weights_with_a_nan_are_frozen_too():
    backbone = Backbone()
    with torch.no_grad():
        backbone.conv.bias[0] = float("nan")
    assert len(embed_batches(backbone, batches(range(4)))) == 4


def test_autocast_computes_low_and_returns_float32():
    full = embed_batches(Backbone(), batches(range(8)))
    low = embed_batches(Backbone(), batches(range(8)), autocast_dtype=torch.bfloat16)
    assert low.features.dtype == torch.float32
    assert not torch.equal(low.features, full.features)
    torch.testing.assert_close(low.features, full.features, rtol=0.05, atol=0.02)


def test_no_images_is_an_error():
    with pytest.raises(DataError, match="no image"):
        embed_batches(Backbone(), [])


def _extract_a_part(rank):
    # 12 and 9 rows of which 20 are different.
    part = [*range(12)] if rank == 0 else [*range(11, 20)]
    own = embed_batches(Backbone(), batches(part))
    found = gather_features(own, device=torch.device("cpu"))
    return found.features, found.labels, found.index


@pytest.mark.distributed
def test_two_processes_both_have_what_one_has():
    alone = embed_batches(Backbone(), batches(range(20)))
    assert gather_features(alone, device=torch.device("cpu")) is alone
    for features, labels, index in run_on_two(_extract_a_part):
        torch.testing.assert_close(features, alone.features, rtol=1e-5, atol=1e-6)
        assert torch.equal(labels, alone.labels)
        assert torch.equal(index, alone.index)
