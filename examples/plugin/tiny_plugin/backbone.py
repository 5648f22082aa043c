"""A network: a classifier by itself, and a backbone for the heads of detection and segmentation."""

from __future__ import annotations

from collections import OrderedDict

from pydantic import Field
from torch import nn

from config.options import Options
from cvnets.kinds import CLASSIFIERS
from cvnets.layers.conv import ConvNormAct
from cvnets.layers.style import LayerStyle
from cvnets.models.encoder import ImageEncoder, by_level
from cvnets.models.strides import plan_strides
from cvnets.modules.classifier import pooled_classifier

STRIDES = (2, 1, 2, 2, 2, 2)  # of conv_1 and layer_1 .. layer_5
WIDENING = (1, 2, 3, 4, 6)  # channels of layer_1 .. layer_5, as multiples of `width`


class TinyNetOptions(Options):
    """`model.classification.tiny_net`."""

    width: int = Field(16, ge=1, description="channels of the first level")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of whole channels in layer_5")


@CLASSIFIERS.register("tiny_net", options=TinyNetOptions)
class TinyNet(ImageEncoder):
    """Five depthwise separable convolutions, one per level."""

    def __init__(
        self,
        options: TinyNetOptions,
        *,
        style: LayerStyle,
        num_classes: int,
        classifier_dropout: float | None = None,
        output_stride: int | None = None,
    ):
        c1, c2, c3, c4, c5 = widths = [options.width * factor for factor in WIDENING]
        stem, s1, s2, s3, s4, s5 = plan = plan_strides(STRIDES, output_stride)
        strides = [shape.total_stride for shape in plan[1:]]
        super().__init__(
            channels=by_level(*widths, c5),  # l1 .. l5, l5_exp: as l5, nothing stands between them
            strides=by_level(*strides, strides[-1]),
        )
        self.conv_1 = ConvNormAct(3, c1, 3, stride=stem.stride, style=style)
        self.layer_1 = _separable(c1, c1, s1.stride, s1.entry_dilation, style)
        self.layer_2 = _separable(c1, c2, s2.stride, s2.entry_dilation, style)
        self.layer_3 = _separable(c2, c3, s3.stride, s3.entry_dilation, style)
        self.layer_4 = _separable(c3, c4, s4.stride, s4.entry_dilation, style)
        self.layer_5 = _separable(c4, c5, s5.stride, s5.entry_dilation, style)
        self.layer_5.add_module("dropout", nn.Dropout2d(options.dropout))
        self.conv_1x1_exp = nn.Identity()
        self.classifier = pooled_classifier(
            c5, num_classes, style=style, dropout=classifier_dropout
        )
        style.initialise(self)


def _separable(
    in_channels: int, out_channels: int, stride: int, dilation: int, style: LayerStyle
) -> nn.Sequential:
    """A depthwise convolution 3x3, then a pointwise one."""
    depthwise = ConvNormAct(
        in_channels,
        in_channels,
        3,
        stride=stride,
        dilation=dilation,
        groups=in_channels,
        style=style,
    )
    pointwise = ConvNormAct(in_channels, out_channels, 1, style=style)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))
