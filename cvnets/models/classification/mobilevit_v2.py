"""MobileViT v2 (Mehta and Rastegari, "Separable Self-attention for Mobile Vision Transformers",
2022)."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field
from torch import nn

from config.options import Options
from cvnets.kinds import CLASSIFIERS
from cvnets.layers.channels import Width, make_divisible
from cvnets.layers.conv import ConvNormAct
from cvnets.layers.init import LayerOptions
from cvnets.layers.norm import NORMS
from cvnets.layers.style import LayerStyle
from cvnets.models.classification.mobilevit import Stage
from cvnets.models.encoder import ImageEncoder, by_level
from cvnets.models.strides import StageShape, plan_strides
from cvnets.modules.classifier import pooled_classifier
from cvnets.modules.inverted_residual import InvertedResidual
from cvnets.modules.mobilevit_v2_block import MobileViTv2Block
from cvnets.modules.transformer import Dropouts

EXPANSION = 2
STRIDES = (2, 1, 2, 2, 2, 2, 1)  # of conv_1, layer_1 .. layer_5, conv_1x1_exp


class Widths(NamedTuple):
    """Channels of the stem and the stages, with the transformers of the last three."""

    stem: int
    layer_1: int
    layer_2: int
    layer_3: Stage
    layer_4: Stage
    layer_5: Stage

    @property
    def channels(self) -> tuple[int, ...]:
        """Of layer_1 .. layer_5."""
        late = (stage.channels for stage in (self.layer_3, self.layer_4, self.layer_5))
        return self.layer_1, self.layer_2, *late


def scaled(multiplier: float) -> Widths:
    """The network of a width multiplier."""

    def stage(channels: int, dim: int, depth: int) -> Stage:
        dim = make_divisible(dim * multiplier, 8)
        return Stage(make_divisible(channels * multiplier, 8), dim, 2 * dim // 16 * 16, depth)

    return Widths(
        stem=make_divisible(min(max(32 * multiplier, 16), 64), 8, 16),
        layer_1=make_divisible(64 * multiplier, 16),
        layer_2=make_divisible(128 * multiplier, 8),
        layer_3=stage(256, 128, 2),
        layer_4=stage(384, 192, 4),
        layer_5=stage(512, 256, 3),
    )


NAMES = {
    f"mobilevit_v2_{multiplier}": ("mobilevit_v2", {"width_multiplier": multiplier})
    for multiplier in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
}


class MobileViTv2Options(Options):
    """MobileViT v2."""

    width_multiplier: Width = Field(1.0, description="all widths times this; officially 0.5 to 2.0")
    attn_norm_layer: Literal["layer_norm_2d", "layer_norm", "batch_norm"] = Field(
        "layer_norm_2d",
        description="norm in the transformer: over all of an image's map, over the channels of "
        "each pixel, or over each channel of a batch",
    )
    attn_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="dropout of attention weights")
    ffn_dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="dropout of the transformer's hidden layers"
    )
    dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="dropout of the transformer's two branches"
    )


@CLASSIFIERS.register("mobilevit_v2", key="mitv2", options=MobileViTv2Options)
class MobileViTv2(ImageEncoder):
    """MobileViT v2: MobileNetV2 blocks; attention of linear cost in the last three stages.

    Maps from layer_3 on have even sides, so that they may be larger by one than `strides` tells.
    """

    family_style = LayerStyle(
        layer=LayerOptions(linear_init="trunc_normal", linear_init_std_dev=0.02)
    ).with_activation("swish")
    family = "mobilevit_v2"
    block: ClassVar[type[MobileViTv2Block]] = MobileViTv2Block

    def __init__(
        self,
        options: MobileViTv2Options,
        *,
        style: LayerStyle,
        num_classes: int,
        classifier_dropout: float | None = None,
        output_stride: int | None = None,
    ):
        widths = scaled(options.width_multiplier)
        c1, c2, c3, c4, c5 = widths.channels
        stem, s1, s2, s3, s4, s5, _ = shapes = plan_strides(STRIDES, output_stride)
        super().__init__(
            channels=by_level(*widths.channels, c5),
            strides=by_level(*(shape.total_stride for shape in shapes[1:])),
        )
        residual = partial(InvertedResidual, expansion=EXPANSION, style=style)
        stage = partial(self._stage, options=options, style=style)
        self.conv_1 = ConvNormAct(3, widths.stem, 3, stride=stem.stride, style=style)
        self.layer_1 = nn.Sequential(residual(widths.stem, c1, stride=s1.stride))
        self.layer_2 = nn.Sequential(residual(c1, c2, stride=s2.stride), residual(c2, c2))
        self.layer_3 = stage(c2, widths.layer_3, s3)
        self.layer_4 = stage(c3, widths.layer_4, s4)
        self.layer_5 = stage(c4, widths.layer_5, s5)
        self.conv_1x1_exp = nn.Identity()
        self.classifier = pooled_classifier(
            c5, num_classes, dropout=classifier_dropout, names=("dropout", "1"), style=style
        )
        style.initialise(self)

    def _stage(
        self,
        in_channels: int,
        stage: Stage,
        shape: StageShape,
        *,
        options: MobileViTv2Options,
        style: LayerStyle,
    ) -> nn.Module:
        """An inverted residual that shrinks the map (or enters it dilated), then the block."""
        return nn.Sequential(
            InvertedResidual(
                in_channels,
                stage.channels,
                expansion=EXPANSION,
                stride=shape.stride,
                dilation=shape.entry_dilation,
                style=style,
            ),
            self.block(
                stage.channels,
                dim=stage.dim,
                ffn_dim=stage.ffn_dim,
                depth=stage.depth,
                dilation=shape.dilation,
                norm=partial(NORMS[options.attn_norm_layer], style.normalization),
                dropouts=Dropouts(options.attn_dropout, options.ffn_dropout, options.dropout),
                style=style,
            ),
        )
