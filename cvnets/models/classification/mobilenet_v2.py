"""MobileNetV2 (Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks", CVPR 2018)."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from pydantic import Field
from torch import nn

from config.options import Options
from cvnets.kinds import CLASSIFIERS
from cvnets.layers.channels import Width, make_divisible
from cvnets.layers.conv import ConvNormAct
from cvnets.layers.init import LayerOptions
from cvnets.layers.style import LayerStyle
from cvnets.models.encoder import ImageEncoder, by_level
from cvnets.models.stages import Place, build_stages
from cvnets.models.strides import plan_strides
from cvnets.modules.classifier import pooled_classifier
from cvnets.modules.inverted_residual import InvertedResidual


class Block(NamedTuple):
    """An inverted residual."""

    expansion: int
    channels: int
    stride: int = 1


STEM = 32
LAST = 1280
STAGES = (
    (Block(1, 16),),
    (Block(6, 24, 2), Block(6, 24)),
    (Block(6, 32, 2), *[Block(6, 32)] * 2),
    (Block(6, 64, 2), *[Block(6, 64)] * 3, *[Block(6, 96)] * 3),
    (Block(6, 160, 2), *[Block(6, 160)] * 2, Block(6, 320)),
)

NAMES = {
    f"mobilenetv2_{width}": ("mobilenetv2", {"width_multiplier": width})
    for width in (0.25, 0.5, 0.75, 1.0)
}


class MobileNetV2Options(Options):
    """MobileNetV2. Its own `classifier_dropout` is 0.2 times the width, at most 0.2."""

    width_multiplier: Width = Field(1.0, description="channels relative to the full size")
    paper_stem: bool = Field(
        False,
        description="the first convolution follows width_multiplier, too, as in the paper; "
        "the official networks have 32 channels there at any width",
    )


@CLASSIFIERS.register("mobilenetv2", options=MobileNetV2Options)
class MobileNetV2(ImageEncoder):
    """MobileNetV2: a stack of inverted residuals."""

    family = "mobilenetv2"
    family_style = LayerStyle(layer=LayerOptions(linear_init="normal")).with_activation("relu6")

    def __init__(
        self,
        options: MobileNetV2Options,
        *,
        style: LayerStyle,
        num_classes: int,
        classifier_dropout: float | None = None,
        output_stride: int | None = None,
    ):
        width = options.width_multiplier

        def scaled(channels: int) -> int:
            return make_divisible(channels * width, 8)

        stem = scaled(STEM) if options.paper_stem else STEM
        last = make_divisible(LAST * max(1.0, width), 8)
        stages = [[block._replace(channels=scaled(block.channels)) for block in s] for s in STAGES]
        shapes = plan_strides((2, *(blocks[0].stride for blocks in stages), 1), output_stride)
        channels = [blocks[-1].channels for blocks in stages]
        super().__init__(
            channels=by_level(*channels, last),
            strides=by_level(*(shape.total_stride for shape in shapes[1:])),
        )
        self.conv_1 = ConvNormAct(3, stem, 3, stride=2, style=style)
        self.layer_1, self.layer_2, self.layer_3, self.layer_4, self.layer_5 = build_stages(
            stages,
            shapes[1:6],
            in_channels=stem,
            make=partial(self._block, style=style),
            name="mv2_block_{index}",
        )
        self.conv_1x1_exp = ConvNormAct(channels[-1], last, 1, style=style)
        self.classifier = pooled_classifier(
            last,
            num_classes,
            dropout=min(0.2 * width, 0.2) if classifier_dropout is None else classifier_dropout,
            style=style,
        )
        style.initialise(self)

    @staticmethod
    def _block(block: Block, place: Place, *, style: LayerStyle) -> nn.Module:
        return InvertedResidual(
            place.in_channels,
            block.channels,
            expansion=block.expansion,
            stride=place.stride,
            dilation=place.dilation,
            style=style,
        )
