"""ResNet (He et al., "Deep residual learning for image recognition", CVPR 2016)."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

from pydantic import Field
from torch import nn

from config.options import Options
from cvnets.kinds import CLASSIFIERS
from cvnets.layers.conv import ConvNormAct
from cvnets.layers.init import LayerOptions
from cvnets.layers.style import LayerStyle
from cvnets.models.encoder import ImageEncoder, by_level
from cvnets.models.stages import Place, build_stages
from cvnets.models.strides import plan_strides
from cvnets.modules.classifier import pooled_classifier
from cvnets.modules.residual_block import ResidualBlock


class Block(NamedTuple):
    """A residual block; a bottleneck if it has `mid_channels`."""

    channels: int
    stride: int = 1
    mid_channels: int | None = None


class Variant(NamedTuple):
    """Blocks of layer_2 .. layer_5, and channels behind a stage relative to those inside."""

    blocks: tuple[int, int, int, int]
    expansion: int


STEM = 64
WIDTHS = (64, 128, 256, 512)  # inside the blocks of layer_2 .. layer_5
STRIDES = (1, 2, 2, 2)

VARIANTS = {
    18: Variant((2, 2, 2, 2), 1),
    34: Variant((3, 4, 6, 3), 1),
    50: Variant((3, 4, 6, 3), 4),
    101: Variant((3, 4, 23, 3), 4),
}

NAMES = {f"resnet{depth}": ("resnet", {"depth": depth}) for depth in VARIANTS}


class ResNetOptions(Options):
    """ResNet."""

    depth: Literal[18, 34, 50, 101] = Field(50, description="layers")
    dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="dropout at the end of the residual branches"
    )
    stochastic_depth_prob: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="probability that the last residual branch is left out for an image in "
        "training; it grows linearly from 0 at the first block",
    )
    se_resnet: bool = Field(
        False, description="squeeze and excitation at the end of the residual branches"
    )


@CLASSIFIERS.register("resnet", options=ResNetOptions)
class ResNet(ImageEncoder):
    """ResNet: residual blocks; the stem is a 3x3 and a depthwise 3x3 convolution of stride 2."""

    family = "resnet"
    family_style = LayerStyle(layer=LayerOptions(linear_init="normal")).with_activation("relu")

    def __init__(
        self,
        options: ResNetOptions,
        *,
        style: LayerStyle,
        num_classes: int,
        classifier_dropout: float | None = None,
        output_stride: int | None = None,
    ):
        stages = _stages(VARIANTS[options.depth])
        shapes = plan_strides((2, 2, *STRIDES, 1), output_stride)
        channels = [blocks[-1].channels for blocks in stages]
        super().__init__(
            channels=by_level(STEM, *channels, channels[-1]),
            strides=by_level(*(shape.total_stride for shape in shapes[1:])),
        )
        self.conv_1 = ConvNormAct(3, STEM, 3, stride=2, style=style)
        self.layer_1 = ConvNormAct(STEM, STEM, 3, stride=2, groups=STEM, style=style)
        self.layer_2, self.layer_3, self.layer_4, self.layer_5 = build_stages(
            stages,
            shapes[2:6],
            in_channels=STEM,
            make=partial(self._block, options=options, style=style),
            name="block_{index}",
        )
        self.conv_1x1_exp = nn.Identity()
        self.classifier = pooled_classifier(
            channels[-1], num_classes, dropout=classifier_dropout, style=style
        )
        style.initialise(self)

    @staticmethod
    def _block(
        block: Block, place: Place, *, options: ResNetOptions, style: LayerStyle
    ) -> nn.Module:
        return ResidualBlock(
            place.in_channels,
            block.channels,
            mid_channels=block.mid_channels,
            stride=place.stride,
            dilation=place.dilation,
            squeeze_excitation=options.se_resnet,
            dropout=options.dropout,
            drop_rate=place.depth * options.stochastic_depth_prob,
            style=style,
        )


def _stages(variant: Variant) -> list[list[Block]]:
    """The blocks of a variant, one by one."""
    stages = []
    for width, stride, count in zip(WIDTHS, STRIDES, variant.blocks, strict=True):
        mid = width if variant.expansion > 1 else None
        first = Block(width * variant.expansion, stride, mid)
        stages.append([first, *[first._replace(stride=1)] * (count - 1)])
    return stages
