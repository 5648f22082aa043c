"""EfficientNet (Tan and Le, "EfficientNet: Rethinking model scaling for convolutional neural
networks", ICML 2019)."""

from __future__ import annotations

from functools import partial
from math import ceil
from typing import Literal, NamedTuple

from pydantic import Field
from torch import nn

from config.options import Options
from cvnets.kinds import CLASSIFIERS
from cvnets.layers.channels import make_divisible
from cvnets.layers.conv import ConvNormAct
from cvnets.layers.init import LayerOptions
from cvnets.layers.style import LayerStyle
from cvnets.models.encoder import ImageEncoder, by_level
from cvnets.models.stages import Place, build_stages
from cvnets.models.strides import plan_strides
from cvnets.modules.classifier import pooled_classifier
from cvnets.modules.inverted_residual import InvertedResidual
from cvnets.modules.squeeze_excitation import SqueezeExcitation


class Block(NamedTuple):
    """An inverted residual with squeeze and excitation."""

    expansion: int
    kernel: int
    channels: int
    stride: int = 1


class Scale(NamedTuple):
    """A variant: channels and number of blocks relative to b0."""

    width: float
    depth: float


STEM = 32

# The stages of b0: groups of equal blocks and their number; only the first block has the stride.
STAGES = (
    ((Block(1, 3, 16), 1),),
    ((Block(6, 3, 24, 2), 2),),
    ((Block(6, 5, 40, 2), 2),),
    ((Block(6, 3, 80, 2), 3), (Block(6, 5, 112), 3)),
    ((Block(6, 5, 192, 2), 4), (Block(6, 3, 320), 1)),
)

VARIANTS = {
    "b0": Scale(1.0, 1.0),
    "b1": Scale(1.0, 1.1),
    "b2": Scale(1.1, 1.2),
    "b3": Scale(1.2, 1.4),
    "b4": Scale(1.4, 1.8),
    "b5": Scale(1.6, 2.2),
    "b6": Scale(1.8, 2.6),
    "b7": Scale(2.0, 3.1),
}

NAMES = {f"efficientnet_{mode}": ("efficientnet", {"mode": mode}) for mode in VARIANTS}


class EfficientNetOptions(Options):
    """EfficientNet."""

    mode: Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"] = Field("b0", description="size")
    stochastic_depth_prob: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="probability that the last residual branch is left out for an image in "
        "training; it grows linearly from 0 at the first block",
    )
    paper_squeeze_width: bool = Field(
        False,
        description="squeeze to a quarter of the block's input channels, as in the paper; "
        "the official networks squeeze to 32 at least, in multiples of 8",
    )


@CLASSIFIERS.register("efficientnet", options=EfficientNetOptions)
class EfficientNet(ImageEncoder):
    """EfficientNet: inverted residuals with squeeze and excitation, scaled in width and depth.

    The activation is swish, whatever `model.activation` says.
    """

    fixed_activation = True
    family = "efficientnet"
    family_style = LayerStyle(layer=LayerOptions(linear_init="normal")).with_activation("swish")

    def __init__(
        self,
        options: EfficientNetOptions,
        *,
        style: LayerStyle,
        num_classes: int,
        classifier_dropout: float | None = None,
        output_stride: int | None = None,
    ):
        style = style.with_activation("swish")
        scale = VARIANTS[options.mode]
        stem, stages = make_divisible(STEM * scale.width, 8), _stages(scale)
        shapes = plan_strides((2, *(blocks[0].stride for blocks in stages), 1), output_stride)
        channels = [blocks[-1].channels for blocks in stages]
        last = 4 * channels[-1]
        super().__init__(
            channels=by_level(*channels, last),
            strides=by_level(*(shape.total_stride for shape in shapes[1:])),
        )
        self.conv_1 = ConvNormAct(3, stem, 3, stride=2, style=style)
        self.layer_1, self.layer_2, self.layer_3, self.layer_4, self.layer_5 = build_stages(
            stages,
            shapes[1:6],
            in_channels=stem,
            make=partial(self._block, options=options, style=style),
        )
        self.conv_1x1_exp = ConvNormAct(channels[-1], last, 1, style=style)
        self.classifier = pooled_classifier(
            last, num_classes, dropout=classifier_dropout, style=style
        )
        style.initialise(self)

    @staticmethod
    def _block(
        block: Block, place: Place, *, options: EfficientNetOptions, style: LayerStyle
    ) -> nn.Module:
        squeezed = make_divisible(place.in_channels / 4, 8, 32)
        if options.paper_squeeze_width:
            squeezed = place.in_channels // 4
        return InvertedResidual(
            place.in_channels,
            block.channels,
            expansion=block.expansion,
            stride=place.stride,
            dilation=place.dilation,
            kernel_size=block.kernel,
            attention=lambda hidden: SqueezeExcitation(hidden, squeezed, style=style),
            drop_rate=place.depth * options.stochastic_depth_prob,
            style=style,
        )


def _stages(scale: Scale) -> list[list[Block]]:
    """The blocks of a variant, one by one."""
    stages = []
    for groups in STAGES:
        blocks: list[Block] = []
        for block, count in groups:
            first = block._replace(channels=make_divisible(block.channels * scale.width, 8))
            more = ceil(count * scale.depth) - 1
            blocks += [first, *[first._replace(stride=1)] * more]
        stages.append(blocks)
    return stages
