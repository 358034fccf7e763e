import pytest
import torch

from ssl_lt.core.errors import ConfigError
from ssl_lt.losses.focal_contrast import focal_nt_xent
from ssl_lt.pretrain.focal import Focal, FocalOptions
from ssl_lt.pretrain.simclr import SimCLR
from ssl_lt.pretrain.temperature import TemperatureOptions
from tests.pretrain import toy


def test_the_loss_is_the_focal_nt_xent():
    temperature, options = TemperatureOptions(0.3), FocalOptions(gamma=1.5)
    task = Focal(toy.parts(), temperature=temperature, options=options, seed=0)
    z1, z2 = torch.randn(2, 6, 5)
    want = focal_nt_xent(z1, z2, temperature=0.3, gamma=1.5)
    torch.testing.assert_close(task.pair_losses(z1, z2), want)


def test_gamma_zero_is_simclr():
    constant = TemperatureOptions()
    focal = Focal(toy.parts(), temperature=constant, options=FocalOptions(gamma=0.0), seed=0)
    plain = SimCLR(toy.parts(), temperature=constant, seed=0)
    torch.testing.assert_close(focal(toy.batch(0)).loss, plain(toy.batch(0)).loss)


@pytest.mark.parametrize("gamma", [-1.0, float("inf"), float("nan")])
def test_bad_gamma(gamma):
    with pytest.raises(ConfigError, match=r"--focal\.gamma"):
        FocalOptions(gamma=gamma)
