import numpy as np
import pytest
import timm
import timm.optim
import torch
from timm.models import save_for_hf
from torch import nn
from torch.nn import functional as F

from ssl_lt.core.errors import ConfigError
from ssl_lt.models.backbones import OUR_BACKBONES, create_backbone, feature_dim
from ssl_lt.models.cifar.resnet import PaddedShortcut


def test_golden_resnet18(golden):
    d = golden("pretraining/resnet18_cifar_forward.npz")
    net = create_backbone("resnet18_cifar", image_size=32).double().eval()
    convs = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d)]
    assert [n for n, _ in convs] == d["conv_names"].tolist()
    for number, (_, conv) in enumerate(convs):
        i = np.arange(conv.weight.numel(), dtype=np.float64)
        wave = np.sin(0.37 * i + 1.3 * number + ((1e-3 * i * i) % 6.283185307179586))
        w = np.sqrt(2 / conv.weight[0].numel()) * np.sqrt(2) * wave
        conv.weight.data = torch.tensor(w).view_as(conv.weight)
    x = torch.tensor(d["x"])
    with torch.no_grad():
        np.testing.assert_allclose(net(x), d["feat_gh_no_norm"], atol=1e-12)
        mean = torch.tensor([0.485, 0.456, 0.406], dtype=x.dtype).view(3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225], dtype=x.dtype).view(3, 1, 1)
        normalised = net((x - mean) / std)
    np.testing.assert_allclose(normalised, d["feat_sdclr_bcl_imagenet_norm_inside"], atol=2e-6)


@pytest.mark.parametrize(
    ("name", "parameters", "features", "smallest"),
    [
        ("convnet7_cifar", 1_089_600, 256, 9),
        ("resnet18_cifar", 11_168_832, 512, 8),
        ("resnet20_cifar", 269_072, 64, 8),
        ("resnet32_cifar", 463_504, 64, 8),
    ],
)
def test_sizes(name, parameters, features, smallest):
    net = create_backbone(name, image_size=32).eval()
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert net.num_features == feature_dim(net) == features
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, features)
    assert net(torch.zeros(2, 3, smallest, smallest)).shape == (2, features)


def test_a_pooling_may_widen_the_features():
    for name in OUR_BACKBONES:
        arguments = {"global_pool": "catavgmax"}
        net = create_backbone(name, image_size=32, width=4, arguments=arguments).eval()
        assert net(torch.zeros(2, 3, 32, 32)).shape == (2, feature_dim(net))
        assert feature_dim(net) == 2 * net.num_features
        net.reset_classifier(7, global_pool="avg")
        assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
        assert feature_dim(net) == net.num_features


def test_the_other_weights_of_resnet18_fit_torchvision_and_timm():
    from torchvision.models import resnet18

    ours = create_backbone("resnet18_cifar", image_size=32).state_dict()
    for theirs in (resnet18().state_dict(), timm.create_model("resnet18").state_dict()):
        shapes = {k: v.shape for k, v in theirs.items() if not k.startswith("fc.")}
        assert list(ours) == list(shapes)
        assert [k for k in ours if ours[k].shape != shapes[k]] == ["conv1.weight"]


@pytest.mark.parametrize("name", OUR_BACKBONES)
def test_timm_creates_saves_and_loads_ours(name, tmp_path):
    net = timm.create_model(name, num_classes=0, width=4).eval()
    x = torch.randn(2, 3, 16, 16)
    save_for_hf(net, tmp_path, safe_serialization=True)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(loaded(x), net(x))
    classifier = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=7).eval()
    assert classifier(x).shape == (2, 7)
    assert torch.equal(classifier.forward_head(classifier.forward_features(x), True), net(x))


@pytest.mark.parametrize("name", OUR_BACKBONES)
def test_the_rest_of_timms_interface(name):
    net = timm.create_model(name, num_classes=5, width=4)
    assert net.get_classifier().out_features == 5
    net.reset_classifier(3)
    assert net(torch.zeros(2, 3, 16, 16)).shape == (2, 3)
    net.reset_classifier(0)
    assert isinstance(net.get_classifier(), nn.Identity)
    maps = timm.create_model(name, features_only=True, width=4)(torch.zeros(2, 3, 16, 16))
    sides = [7, 3, 1] if name == "convnet7_cifar" else [16, 8, 4, 2]
    assert [m.shape[-1] for m in maps] == sides[: len(maps)]
    optimizer = timm.optim.create_optimizer_v2(net, opt="momentum", lr=0.1, layer_decay=0.5)
    assert len({group["lr_scale"] for group in optimizer.param_groups}) > 3


def test_convnet7_is_stem_and_two_convolutions_a_stage():
    net = create_backbone("convnet7_cifar", width=4, image_size=9)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(5, 3, 9, 9)

    def normed(x, name):
        norm = net.get_submodule(name)
        x = x - x.mean((0, 2, 3), keepdim=True)
        x = x / (x.square().mean((0, 2, 3), keepdim=True) + norm.eps).sqrt()
        return torch.relu(x * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1))

    y = normed(F.conv2d(x, net.conv1.weight), "bn1")
    for stage in ("layer1", "layer2", "layer3"):
        y = F.conv2d(y, net.get_parameter(f"{stage}.0.0.weight"), padding=1)
        y = normed(F.max_pool2d(y, 2), f"{stage}.0.2")
        y = F.conv2d(y, net.get_parameter(f"{stage}.1.0.weight"), padding=1)
        y = normed(y, f"{stage}.1.1")
    assert [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)] == [
        4, 4, 4, 16, 16, 32, 32,
    ]  # fmt: skip
    torch.testing.assert_close(net(x), y.mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_padded_shortcut_keeps_the_pixels():
    x = torch.randn(1, 4, 6, 6)
    out = PaddedShortcut(4, 8, 2)(x)
    assert torch.equal(out[:, 2:6], x[:, :, ::2, ::2])
    assert out[:, :2].abs().max() == out[:, 6:].abs().max() == 0


def test_convolutions_start_kaiming_normal():
    torch.manual_seed(0)
    for name, fan in (("resnet18_cifar", 256 * 9), ("resnet32_cifar", 32 * 9)):
        net = create_backbone(name, image_size=32)
        conv = net.layer3[0].conv1  # in and out channels differ: the side that counts shows
        assert conv.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.03)
        assert net.layer3[0].bn2.weight.min() == 1


def test_any_model_of_timm():
    vit = create_backbone("vit_tiny_patch16_224", image_size=32).eval()
    assert vit(torch.zeros(1, 3, 32, 32)).shape == (1, 192)
    wide = create_backbone("mobilenetv3_small_050", image_size=32).eval()
    assert wide(torch.zeros(1, 3, 32, 32)).shape == (1, feature_dim(wide))
    assert feature_dim(wide) != wide.num_features


@pytest.mark.parametrize(
    ("name", "width", "message"),
    [
        ("resnet18_cifr", None, "--backbone: unknown name 'resnet18_cifr'; .* resnet18_cifar"),
        ("qqqqqqqq", None, "--backbone: unknown name 'qqqqqqqq'$"),
        ("resnet50.a1_in2k", None, "resnet50 has no weights tagged 'a1_in2k'; nearest: .*a1_in1k"),
        ("resnet50.bogus", None, "--backbone: resnet50 has no weights tagged 'bogus'; nearest: "),
        ("resnet18", 8, "--width: resnet18 has none"),
        ("resnet32_cifar", 0, "--width: 0, must be at least 1"),
    ],
)
def test_bad_names_and_widths(name, width, message):
    with pytest.raises(ConfigError, match=message):
        create_backbone(name, width=width, image_size=32)


def test_an_image_too_small_for_the_poolings_is_refused():
    with pytest.raises(ConfigError, match=r"^--backbone: convnet7_cifar needs images of .* 9"):
        create_backbone("convnet7_cifar", image_size=8)
