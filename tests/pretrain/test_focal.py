import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.focal_contrast import focal_nt_xent
from ssl_lt.pretrain.focal import Focal, FocalOptions
from ssl_lt.pretrain.simclr import SimCLR, SimCLROptions
from tests.pretrain import toy


def test_the_loss_is_the_focal_nt_xent():
    task = Focal(toy.parts(), options=FocalOptions(temperature=0.3, gamma=1.5), seed=0)
    z1, z2 = torch.randn(2, 6, 5)
    want = focal_nt_xent(z1, z2, temperature=0.3, gamma=1.5)
    torch.testing.assert_close(task.pair_losses(z1, z2), want)


def test_gamma_zero_is_simclr():
    focal = Focal(toy.parts(), options=FocalOptions(gamma=0.0), seed=0)
    plain = SimCLR(toy.parts(), options=SimCLROptions(), seed=0)
    torch.testing.assert_close(focal(toy.batch(0)).loss, plain(toy.batch(0)).loss)


@pytest.mark.parametrize("gamma", [-1.0, 0.5, float("nan")])
def test_bad_gamma(gamma):
    with pytest.raises(ConfigError, match="--gamma"):
        FocalOptions(gamma=gamma)


def test_bad_temperature():
    with pytest.raises(ConfigError, match="--temperature"):
        FocalOptions(temperature=0.0)
