"""MobileNetV1 (Howard et al., "MobileNets: Efficient convolutional neural networks for mobile vision
applications", 2017)."""

from __future__ import annotations

from functools import partial
from math import ceil
from typing import NamedTuple

from pydantic import Field
from torch import nn

from config.options import Options
from cvnets.kinds import CLASSIFIERS
from cvnets.layers.channels import Width, make_divisible
from cvnets.layers.conv import ConvNormAct, SeparableConv
from cvnets.layers.init import LayerOptions
from cvnets.layers.style import LayerStyle
from cvnets.models.encoder import ImageEncoder, by_level
from cvnets.models.stages import Place, build_stages
from cvnets.models.strides import plan_strides
from cvnets.modules.classifier import pooled_classifier


class Unit(NamedTuple):
    """A depthwise separable convolution."""

    channels: int
    stride: int = 1


STEM = 32
STAGES = (
    (Unit(64),),
    (Unit(128, 2), Unit(128)),
    (Unit(256, 2), Unit(256)),
    (Unit(512, 2), *[Unit(512)] * 5),
    (Unit(1024, 2), Unit(1024)),
)

NAMES = {
    f"mobilenetv1_{width}": ("mobilenetv1", {"width_multiplier": width})
    for width in (0.25, 0.5, 0.75, 1.0)
}


class MobileNetV1Options(Options):
    """MobileNetV1. Its own `classifier_dropout` is 0.1 times the width, at most 0.1."""

    width_multiplier: Width = Field(1.0, description="channels relative to the full size")
    paper_activations: bool = Field(
        False,
        description="an activation behind the depthwise convolutions, too, as in the paper; "
        "the official networks have none there",
    )


@CLASSIFIERS.register("mobilenetv1", options=MobileNetV1Options)
class MobileNetV1(ImageEncoder):
    """MobileNetV1: a stack of depthwise separable convolutions."""

    family = "mobilenetv1"
    family_style = LayerStyle(layer=LayerOptions(linear_init="normal")).with_activation("relu")

    def __init__(
        self,
        options: MobileNetV1Options,
        *,
        style: LayerStyle,
        num_classes: int,
        classifier_dropout: float | None = None,
        output_stride: int | None = None,
    ):
        width = options.width_multiplier

        def scaled(channels: int) -> int:
            return make_divisible(ceil(channels * width), 16)

        stem = scaled(STEM)
        stages = [[unit._replace(channels=scaled(unit.channels)) for unit in s] for s in STAGES]
        shapes = plan_strides((2, *(units[0].stride for units in stages), 1), output_stride)
        channels = [units[-1].channels for units in stages]
        super().__init__(
            channels=by_level(*channels, channels[-1]),
            strides=by_level(*(shape.total_stride for shape in shapes[1:])),
        )
        self.conv_1 = ConvNormAct(3, stem, 3, stride=2, style=style)
        self.layer_1, self.layer_2, self.layer_3, self.layer_4, self.layer_5 = build_stages(
            stages,
            shapes[1:6],
            in_channels=stem,
            make=partial(self._unit, options=options, style=style),
        )
        self.conv_1x1_exp = nn.Identity()
        self.classifier = pooled_classifier(
            channels[-1],
            num_classes,
            dropout=min(0.1 * width, 0.1) if classifier_dropout is None else classifier_dropout,
            style=style,
        )
        style.initialise(self)

    @staticmethod
    def _unit(
        unit: Unit, place: Place, *, options: MobileNetV1Options, style: LayerStyle
    ) -> nn.Module:
        return SeparableConv(
            place.in_channels,
            unit.channels,
            3,
            stride=place.stride,
            dilation=place.dilation,
            depthwise_act=options.paper_activations,
            style=style,
        )
