"""A plain convolutional network for images of about 32 pixels that learns in few epochs."""

from __future__ import annotations

from torch import nn

from ssl_lt.models.cifar.network import CifarNetwork, start_convolutions

# Channels of the stages, in those of the stem.
_STAGES = (1, 4, 8)
# Pixels a side, of which the poolings leave one.
SMALLEST_IMAGE = 9


class CifarConvNet(CifarNetwork):
    """Seven convolutions: a stem, and two in each of three stages, without shortcuts.

    A stage pools after its first convolution, so most of the work is done on small maps of many
    channels. The stem is 2x2 without padding: 32 pixels become 31, 15, 7 and 3. Both are of
    arXiv:2404.00498, whose stem whitens and whose activation is GELU. The stages have `width`,
    `4 * width` and `8 * width` channels. Keys are `conv1`, `bn1`, `layer2.0.0` (a convolution),
    `layer2.0.2` and `layer2.1.1` (batch norms), `fc`.

    Args:
        width: channels of the stem.
        num_classes: 0 gives features instead of logits.
        in_chans: channels of the images.
        global_pool: timm's name of the pooling before the classifier.
    """

    def __init__(
        self, *, width: int, num_classes: int = 10, in_chans: int = 3, global_pool: str = "avg"
    ) -> None:
        super().__init__(nn.Conv2d(in_chans, width, 2, bias=False))
        for k, multiple in enumerate(_STAGES):
            out = multiple * width
            blocks = nn.Sequential(
                _convolution(self.num_features, out, nn.MaxPool2d(2)), _convolution(out, out)
            )
            self.add_stage(blocks, channels=out, reduction=2 ** (k + 1))
        self.add_classifier(num_classes, global_pool=global_pool)
        start_convolutions(self, "fan_in")


def _convolution(in_channels: int, out_channels: int, *pooling: nn.Module) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, *pooling, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
