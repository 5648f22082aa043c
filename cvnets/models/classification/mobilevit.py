"""MobileViT (Mehta and Rastegari, "MobileViT: Light-weight, General-purpose, and Mobile-friendly
Vision Transformer", ICLR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator
from torch import nn

from config.errors import UserError
from config.options import Options
from cvnets.kinds import CLASSIFIERS
from cvnets.layers.conv import ConvNormAct
from cvnets.layers.init import LayerOptions
from cvnets.layers.style import LayerStyle
from cvnets.models.encoder import ImageEncoder, by_level
from cvnets.models.strides import plan_strides
from cvnets.modules.classifier import pooled_classifier
from cvnets.modules.inverted_residual import InvertedResidual
from cvnets.modules.mobilevit_block import MobileViTBlock
from cvnets.modules.transformer import Dropouts


class Stage(NamedTuple):
    """A stage with a transformer: channels; width, hidden width and depth of the transformer."""

    channels: int
    dim: int
    ffn_dim: int
    depth: int


class Widths(NamedTuple):
    """A variant: expansion of all inverted residuals, then the channels and transformers."""

    expansion: int
    layer_1: int
    layer_2: int
    layer_3: Stage
    layer_4: Stage
    layer_5: Stage

    @property
    def channels(self) -> tuple[int, ...]:
        """Of layer_1 .. layer_5 and conv_1x1_exp."""
        late = [stage.channels for stage in (self.layer_3, self.layer_4, self.layer_5)]
        return self.layer_1, self.layer_2, *late, min(4 * late[-1], 960)


STEM = 16
STRIDES = (2, 1, 2, 2, 2, 2, 1)  # of conv_1, layer_1 .. layer_5, conv_1x1_exp

VARIANTS: dict[str, Widths] = {
    "xx_small": Widths(
        2, 16, 24, Stage(48, 64, 128, 2), Stage(64, 80, 160, 4), Stage(80, 96, 192, 3)
    ),
    "x_small": Widths(
        4, 32, 48, Stage(64, 96, 192, 2), Stage(80, 120, 240, 4), Stage(96, 144, 288, 3)
    ),
    "small": Widths(
        4, 32, 64, Stage(96, 144, 288, 2), Stage(128, 192, 384, 4), Stage(160, 240, 480, 3)
    ),
}

NAMES = {f"mobilevit_{mode}": ("mobilevit", {"mode": mode}) for mode in VARIANTS}


class MobileViTOptions(Options):
    """MobileViT, and those MobileViTv3 networks that are built on it (modes `*_v3*`)."""

    mode: Literal[
        "xx_small", "x_small", "small",
        "xx_small_v3", "x_small_v3", "small_v3",
        "xx_small_v3_fast", "x_small_v3_fast", "small_v3_fast",
    ] = Field("small", description="size; the modes with _v3 belong to mobilevit_v3")  # fmt: skip
    attn_dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="dropout of attention probabilities"
    )
    ffn_dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="dropout of the transformer's hidden layers"
    )
    dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="dropout of the transformer's two branches"
    )
    transformer_norm_layer: Literal["layer_norm"] = Field(
        "layer_norm", description="norm in the transformer: always layer norm"
    )
    no_fuse_local_global_features: bool = Field(
        False, description="leave out the convolution that joins a block's input with its result"
    )
    conv_kernel_size: int = Field(
        3, ge=1, le=15, description="kernel of the local and the fusion convolution in pixels; odd"
    )
    head_dim: int | None = Field(
        None, ge=1, description="channels per attention head; or give number_heads"
    )
    number_heads: int | None = Field(
        None, ge=1, description="attention heads; null: 4, or by head_dim"
    )

    @model_validator(mode="after")
    def _check(self) -> MobileViTOptions:
        if self.head_dim is not None and self.number_heads is not None:
            raise ValueError(
                "head_dim and number_heads exclude each other: give one, set the other to null"
            )
        if self.conv_kernel_size % 2 == 0:
            raise ValueError(f"conv_kernel_size must be odd, {self.conv_kernel_size} is even")
        return self

    def heads(self, dim: int) -> int:
        """Attention heads of a transformer of width `dim`."""
        heads, rest = divmod(dim, self.head_dim) if self.head_dim else (self.number_heads or 4, 0)
        if rest or dim % heads:
            given = f"head_dim: {self.head_dim}" if self.head_dim else f"number_heads: {heads}"
            raise UserError(
                f"model.classification.mit.{given} does not divide the width {dim} "
                f"of a transformer of {self.mode}"
            )
        return heads


@CLASSIFIERS.register("mobilevit", key="mit", options=MobileViTOptions)
class MobileViT(ImageEncoder):
    """MobileViT v1: MobileNetV2 blocks; transformers over 2x2 patches in the last three stages."""

    family_style = LayerStyle(
        layer=LayerOptions(linear_init="trunc_normal", linear_init_std_dev=0.02)
    ).with_activation("swish")
    family = "mobilevit"
    variants: ClassVar[Mapping[str, Widths]] = VARIANTS
    names: ClassVar[tuple[str, str]] = ("mobilevit", "mobilevit_v3")  # own, owner of other modes
    block: ClassVar[type[MobileViTBlock]] = MobileViTBlock

    def __init__(
        self,
        options: MobileViTOptions,
        *,
        style: LayerStyle,
        num_classes: int,
        classifier_dropout: float | None = None,
        output_stride: int | None = None,
    ):
        widths = self._widths(options.mode)
        c1, c2, c3, c4, c5, last = widths.channels
        stem, s1, s2, s3, s4, s5, _ = shapes = plan_strides(STRIDES, output_stride)
        super().__init__(
            channels=by_level(*widths.channels),
            strides=by_level(*(shape.total_stride for shape in shapes[1:])),
        )
        residual = partial(InvertedResidual, expansion=widths.expansion, style=style)
        block = partial(self._block, options=options, style=style)
        self.conv_1 = ConvNormAct(3, STEM, 3, stride=stem.stride, style=style)
        self.layer_1 = nn.Sequential(residual(STEM, c1, stride=s1.stride))
        self.layer_2 = nn.Sequential(
            residual(c1, c2, stride=s2.stride), residual(c2, c2), residual(c2, c2)
        )
        self.layer_3 = nn.Sequential(
            residual(c2, c3, stride=s3.stride, dilation=s3.entry_dilation), block(widths.layer_3)
        )
        self.layer_4 = nn.Sequential(
            residual(c3, c4, stride=s4.stride, dilation=s4.entry_dilation), block(widths.layer_4)
        )
        self.layer_5 = nn.Sequential(
            residual(c4, c5, stride=s5.stride, dilation=s5.entry_dilation), block(widths.layer_5)
        )
        self.conv_1x1_exp = ConvNormAct(c5, last, 1, style=style)
        self.classifier = pooled_classifier(
            last, num_classes, dropout=classifier_dropout, names=("dropout", "fc"), style=style
        )
        style.initialise(self)

    @classmethod
    def _widths(cls, mode: str) -> Widths:
        if mode not in cls.variants:
            own, other = cls.names
            raise UserError(
                f"model.classification.mit.mode: {mode} is a network of {other}; "
                f"the modes of {own} are {', '.join(cls.variants)}"
            )
        return cls.variants[mode]

    def _block(self, stage: Stage, options: MobileViTOptions, style: LayerStyle) -> nn.Module:
        return self.block(
            stage.channels,
            dim=stage.dim,
            ffn_dim=stage.ffn_dim,
            depth=stage.depth,
            num_heads=options.heads(stage.dim),
            kernel_size=options.conv_kernel_size,
            fuse=not options.no_fuse_local_global_features,
            dropouts=Dropouts(options.attn_dropout, options.ffn_dropout, options.dropout),
            style=style,
        )
