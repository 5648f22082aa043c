"""MobileNetV3 (Howard et al., "Searching for MobileNetV3", ICCV 2019)."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Literal, NamedTuple

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
from cvnets.modules.squeeze_excitation import SqueezeExcitation


class Block(NamedTuple):
    """An inverted residual; `kernel` is the paper's, the official networks have 3 everywhere."""

    expansion: float
    channels: int
    kernel: int
    squeeze: bool
    activation: Literal["relu", "hard_swish"]
    stride: int = 1


class Variant(NamedTuple):
    """The stages, and the width of the layer in front of the last."""

    stages: tuple[tuple[Block, ...], ...]
    hidden: int


STEM = 16

VARIANTS = {
    "small": Variant(
        (
            (Block(1, 16, 3, True, "relu", 2),),
            (Block(4.5, 24, 3, False, "relu", 2),),
            (Block(3.67, 24, 3, False, "relu"),),
            (
                Block(4, 40, 5, True, "hard_swish", 2),
                *[Block(6, 40, 5, True, "hard_swish")] * 2,
                *[Block(3, 48, 5, True, "hard_swish")] * 2,
            ),
            (Block(6, 96, 5, True, "hard_swish", 2), *[Block(6, 96, 5, True, "hard_swish")] * 2),
        ),
        hidden=1024,
    ),
    "large": Variant(
        (
            (Block(1, 16, 3, False, "relu"),),
            (Block(4, 24, 3, False, "relu", 2), Block(3, 24, 3, False, "relu")),
            (Block(3, 40, 5, True, "relu", 2), *[Block(3, 40, 5, True, "relu")] * 2),
            (
                Block(6, 80, 3, False, "hard_swish", 2),
                Block(2.5, 80, 3, False, "hard_swish"),
                *[Block(2.3, 80, 3, False, "hard_swish")] * 2,
                *[Block(6, 112, 3, True, "hard_swish")] * 2,
            ),
            (Block(6, 160, 5, True, "hard_swish", 2), *[Block(6, 160, 5, True, "hard_swish")] * 2),
        ),
        hidden=1280,
    ),
}

NAMES = {f"mobilenetv3_{mode}": ("mobilenetv3", {"mode": mode}) for mode in VARIANTS}


class MobileNetV3Options(Options):
    """MobileNetV3."""

    mode: Literal["small", "large"] = Field("large", description="size")
    width_multiplier: Width = Field(
        1.0, description="channels of the blocks relative to the full size"
    )
    paper_kernels: bool = Field(
        False,
        description="depthwise kernels of 5x5 where the paper has them; "
        "the official networks have 3x3 everywhere",
    )
    paper_squeeze_width: bool = Field(
        False,
        description="squeeze to a quarter of the hidden channels, as in the paper; "
        "the official networks squeeze to 32 at least",
    )


@CLASSIFIERS.register("mobilenetv3", options=MobileNetV3Options)
class MobileNetV3(ImageEncoder):
    """MobileNetV3: inverted residuals, some with squeeze and excitation.

    Each block has the activation of the paper's table, whatever `model.activation` says.
    """

    fixed_activation = True
    family = "mobilenetv3"
    family_style = LayerStyle(layer=LayerOptions(linear_init="normal"))

    def __init__(
        self,
        options: MobileNetV3Options,
        *,
        style: LayerStyle,
        num_classes: int,
        classifier_dropout: float | None = None,
        output_stride: int | None = None,
    ):
        hard_swish = style.with_activation("hard_swish")

        def scaled(channels: int) -> int:
            return make_divisible(channels * options.width_multiplier, 8)

        variant = VARIANTS[options.mode]
        stages = [
            [block._replace(channels=scaled(block.channels)) for block in blocks]
            for blocks in variant.stages
        ]
        shapes = plan_strides((2, *(blocks[0].stride for blocks in stages), 1), output_stride)
        channels = [blocks[-1].channels for blocks in stages]
        last = 6 * channels[-1]
        super().__init__(
            channels=by_level(*channels, last),
            strides=by_level(*(shape.total_stride for shape in shapes[1:])),
        )
        stem = ConvNormAct(3, STEM, 3, stride=2, style=hard_swish)
        self.conv_1 = nn.Sequential(OrderedDict(conv_3x3_bn=stem))
        self.layer_1, self.layer_2, self.layer_3, self.layer_4, self.layer_5 = build_stages(
            stages,
            shapes[1:6],
            in_channels=STEM,
            make=partial(self._block, options=options, style=style),
            name="mv3_s_{stride}_idx_{index}",
        )
        expansion = ConvNormAct(channels[-1], last, 1, style=hard_swish)
        self.conv_1x1_exp = nn.Sequential(OrderedDict(conv_1x1=expansion))
        self.classifier = pooled_classifier(
            last,
            num_classes,
            hidden=variant.hidden,
            dropout=classifier_dropout,
            style=hard_swish,
        )
        style.initialise(self)

    @staticmethod
    def _block(
        block: Block, place: Place, *, options: MobileNetV3Options, style: LayerStyle
    ) -> nn.Module:
        def squeeze(hidden: int) -> nn.Module:
            squeezed = make_divisible(hidden / 4, 8, 8 if options.paper_squeeze_width else 32)
            relu = style.with_activation("relu")
            return SqueezeExcitation(hidden, squeezed, gate="hard_sigmoid", style=relu)

        return InvertedResidual(
            place.in_channels,
            block.channels,
            expansion=block.expansion,
            stride=place.stride,
            dilation=place.dilation,
            kernel_size=block.kernel if options.paper_kernels else 3,
            attention=squeeze if block.squeeze else None,
            style=style.with_activation(block.activation),
        )
