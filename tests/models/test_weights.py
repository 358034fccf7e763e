import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ssl_lt.core.errors import CheckpointError
from ssl_lt.models.weights import load_backbone_weights


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(*[nn.Linear(width, width) for _ in range(10)])


def other():
    torch.manual_seed(7)
    net = Net()
    nn.init.normal_(net.bn1.running_mean)
    return net.state_dict()


def same(net, state):
    return all(torch.equal(net.state_dict()[k], state[k]) for k in state)


@pytest.mark.parametrize("container", [None, "state_dict", "model"])
@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "backbone.", "encoder.", "module.encoder_q.", "base_encoder.", "_orig_mod."],
)
def test_containers_and_prefixes(tmp_path, container, prefix):
    state = {prefix + k: v for k, v in other().items()}
    state |= {prefix + "fc.weight": torch.ones(2), "module.encoder_k.conv1.weight": torch.ones(1)}
    torch.save(state if container is None else {container: state, "epoch": 3}, tmp_path / "w.pt")
    net = Net()
    report = load_backbone_weights(net, tmp_path / "w.pt")
    assert same(net, other())
    assert set(report.matched) == set(other())
    assert report.missing == ()
    assert set(report.unexpected) == {prefix + "fc.weight", "module.encoder_k.conv1.weight"}
    assert str(report).startswith("26 tensors loaded, 0 missing, 2 not used")


def test_safetensors(tmp_path):
    save_file({f"backbone.{k}": v for k, v in other().items()}, tmp_path / "w.safetensors")
    net = Net()
    assert load_backbone_weights(net, tmp_path / "w.safetensors").unexpected == ()
    assert same(net, other())


def test_a_backbones_own_name_is_no_prefix(tmp_path):
    wrapped = nn.ModuleDict({"encoder": Net()})
    torch.save({f"module.encoder.{k}": v for k, v in other().items()}, tmp_path / "w.pt")
    load_backbone_weights(wrapped, tmp_path / "w.pt")
    assert same(wrapped["encoder"], other())


def test_a_few_missing_tensors_are_reported_and_keep_their_values(tmp_path):
    state = other()
    del state["blocks.9.bias"], state["bn1.num_batches_tracked"]
    torch.save(state, tmp_path / "w.pt")
    net = Net()
    kept = net.blocks[9].bias.clone()
    report = load_backbone_weights(net, tmp_path / "w.pt")
    assert report.missing == ("bn1.num_batches_tracked", "blocks.9.bias")
    assert torch.equal(net.blocks[9].bias, kept)
    assert same(net, state)


def refused(tmp_path, content, message):
    """The file is refused with that message, and the network is left as it was."""
    torch.save(content, tmp_path / "w.pt")
    net = Net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(CheckpointError, match=message) as error:
        load_backbone_weights(net, tmp_path / "w.pt")
    assert "w.pt" in str(error.value)
    assert "\n" not in str(error.value)
    assert same(net, before)


def test_too_few_tensors(tmp_path):
    state = {k: v for k, v in other().items() if not k.startswith("blocks.1.")}
    del state["blocks.3.bias"]
    refused(tmp_path, state, "22 of the backbone's 25 tensors; missing: blocks.1.weight")
    refused(tmp_path, {"other": torch.ones(1)}, "0 of the backbone's 25 tensors")


def test_another_shape(tmp_path):
    state = other() | {"conv1.weight": torch.ones(4, 3, 7, 7)}
    refused(tmp_path, state, r"conv1.weight is \(4, 3, 7, 7\), expected \(4, 3, 3, 3\)")


def test_of_two_places_the_one_with_more_of_the_backbone_is_taken(tmp_path):
    state = other() | {"encoder.conv1.weight": torch.ones(4, 3, 3, 3)}
    torch.save(state, tmp_path / "w.pt")
    net = Net()
    assert load_backbone_weights(net, tmp_path / "w.pt").unexpected == ("encoder.conv1.weight",)
    assert same(net, other())


def test_what_is_no_checkpoint(tmp_path):
    refused(tmp_path, [torch.ones(2)], "holds a list")
    refused(tmp_path, Net(), "cannot be read as weights")
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_bytes(b"not a checkpoint at all")
        with pytest.raises(CheckpointError, match="cannot be read as weights"):
            load_backbone_weights(Net(), tmp_path / name)
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(CheckpointError, match="cannot be read as weights"):
            load_backbone_weights(Net(), tmp_path / name)
        (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0")
        with pytest.raises(CheckpointError, match="only points to the weights; git lfs pull"):
            load_backbone_weights(Net(), tmp_path / name)
    (tmp_path / "w.pt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"as weights: it is no file of torch\.save"):
        load_backbone_weights(Net(), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="no such file"):
        load_backbone_weights(Net(), tmp_path / "absent.pt")


def test_a_damaged_file_is_one_line_wherever_the_damage_is(tmp_path):
    torch.save(other(), tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    refusals = []
    for number in range(0, 900, 9):
        damaged = bytearray(whole)
        damaged[number] ^= 0x85
        (tmp_path / "w.pt").write_bytes(bytes(damaged))
        try:
            load_backbone_weights(Net(), tmp_path / "w.pt")
        except CheckpointError as error:
            refusals.append(str(error))
    assert len(refusals) > 50
    assert all(line.startswith(f"{tmp_path / 'w.pt'}: ") for line in refusals)
    (tmp_path / "w.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        load_backbone_weights(Net(), tmp_path / "w.pt")
