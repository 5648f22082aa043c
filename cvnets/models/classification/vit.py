"""ViT (Dosovitskiy et al., "An image is worth 16x16 words: transformers for image recognition at
scale", ICLR 2021) with a stem of three convolutions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from config.options import Options
from cvnets.kinds import CLASSIFIERS
from cvnets.layers.conv import ConvNormAct
from cvnets.layers.init import LayerOptions
from cvnets.layers.position import PositionResize, PositionTable
from cvnets.layers.stochastic_depth import stochastic_depth
from cvnets.layers.style import LayerStyle
from cvnets.models.pyramid import PyramidEncoder, resample, rounded_up
from cvnets.models.recompute import run_recomputed
from cvnets.models.strides import plan_strides
from cvnets.modules.simple_pyramid import CHANNELS, SimplePyramid
from cvnets.modules.transformer import Dropouts, TransformerBlock


class Size(NamedTuple):
    """A variant: width, number of transformer blocks, attention heads. The MLP is 4 times wider."""

    dim: int
    depth: int
    heads: int


VARIANTS: dict[str, Size] = {
    "tiny": Size(192, 12, 3),
    "small": Size(384, 12, 6),
    "base": Size(768, 12, 12),
    "large": Size(1024, 24, 16),
    "huge": Size(1280, 32, 20),
}

NAMES = {f"vit_{mode}": ("vit", {"mode": mode}) for mode in VARIANTS}

STEM = ((4, 4), (2, 2), (2, 2))  # (kernel, stride) of the three convolutions
LEVELS = {"l2": 4, "l3": 8, "l4": 16, "l5": 32, "l5_exp": 32}  # strides without output_stride
TABLE_SIDE = 14  # tokens of an image of 224 x 224

NormLayer = Literal["layer_norm", "layer_norm_fp32"]
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer_norm": partial(nn.LayerNorm, eps=1e-6),
    "layer_norm_fp32": nn.LayerNorm,
}


class ViTOptions(Options):
    """ViT."""

    mode: Literal["tiny", "small", "base", "large", "huge"] = Field("base", description="size")
    dropout: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="dropout of the tokens behind the position embedding, of the MLPs' hidden "
        "layers and of the transformer's branches",
    )
    stochastic_dropout: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="probability that the last block's branches are left out for an image in "
        "training; it grows linearly from 0 at the first block",
    )
    norm_layer: NormLayer = Field(
        "layer_norm",
        description="norm in the transformer: epsilon 1e-6, with _fp32 1e-5; mixed precision "
        "computes both in float32",
    )
    sinusoidal_pos_emb: bool = Field(
        False, description="fixed sines and cosines as position embedding, not a learnt table"
    )
    pos_emb_resize: PositionResize = Field(
        "tokens",
        description="how the table of 14 x 14 positions fits other grids: tokens interpolates "
        "along the row of all tokens (the official release), grid in two dimensions (the paper)",
    )
    no_cls_token: bool = Field(
        False, description="classify by the mean of all tokens, without a class token"
    )
    use_pytorch_mha: bool = Field(
        False, description="no effect: attention always runs in torch's own fused function"
    )
    use_simple_fpn: bool = Field(
        False,
        description="as a backbone: a learnt pyramid of 256 channels per map (ViTDet), not "
        "resampled copies of the transformer's map",
    )
    checkpoint_segments: int = Field(
        4,
        ge=1,
        description="parts of the transformer that gradient_checkpointing computes again, one "
        "after the other",
    )


@CLASSIFIERS.register("vit", options=ViTOptions)
class ViT(PyramidEncoder):
    """ViT: a convolutional stem, then one transformer over all patches of 16 x 16 pixels.

    There is one scale: the normed tokens, class token apart, as a map of stride 16 (l4). The other
    levels are that map resampled, or come from a learnt pyramid (`use_simple_fpn`). There is no
    l1. With `output_stride: 8` the last convolution of the stem moves by one: four times as many
    tokens.
    """

    family_style = LayerStyle(
        layer=LayerOptions(linear_init="trunc_normal", linear_init_std_dev=0.02)
    ).with_activation("gelu")
    family = "vit"
    cls_token: nn.Parameter | None

    def __init__(
        self,
        options: ViTOptions,
        *,
        style: LayerStyle,
        num_classes: int,
        classifier_dropout: float | None = None,
        output_stride: int | None = None,
    ):
        size = VARIANTS[options.mode]
        channels = CHANNELS if options.use_simple_fpn else size.dim
        super().__init__(
            channels=dict.fromkeys(LEVELS, channels),
            strides={level: min(stride, output_stride or 32) for level, stride in LEVELS.items()},
        )
        self.options, self.style, self.size = options, style, size
        # The stem ends at stride 16, so its plan does not see an output stride of 32.
        *_, last = shapes = plan_strides([stride for _, stride in STEM], output_stride)
        self.native_stride = last.total_stride
        norm = NORMS[options.norm_layer]
        cls_token = None if options.no_cls_token else nn.Parameter(torch.zeros(1, 1, size.dim))
        self.register_parameter("cls_token", cls_token)
        self.patch_emb = _stem(size.dim, [shape.stride for shape in shapes], style)
        self.post_transformer_norm = norm(size.dim)
        self.transformer = _transformer(size, options, norm, style)
        self.classifier = nn.Linear(size.dim, num_classes)
        table = PositionTable(
            size.dim,
            TABLE_SIDE,
            learnt=not options.sinusoidal_pos_emb,
            resize_along=options.pos_emb_resize,
        )
        self.pos_embed = nn.ModuleDict({"pos_embed": table})
        self.token_dropout = nn.Dropout(options.dropout)
        self.classifier_dropout = nn.Dropout(classifier_dropout or 0.0)
        self.simple_fpn: SimplePyramid | None = None
        style.initialise(self)

    def _logits(self, images: Tensor) -> Tensor:
        assert self.classifier is not None
        tokens, _ = self._encode(images)
        chosen = tokens.mean(1) if self.cls_token is None else tokens[:, 0]
        return self.classifier(self.classifier_dropout(chosen))

    def _maps(self, images: Tensor, levels: Sequence[str]) -> dict[str, Tensor]:
        if self.options.use_simple_fpn and self.simple_fpn is None:
            raise RuntimeError(
                "use_simple_fpn: the learnt pyramid comes with as_backbone(levels); "
                "before that this network has no maps"
            )
        tokens, grid = self._encode(images)
        patches = tokens if self.cls_token is None else tokens[:, 1:]
        native = patches.transpose(1, 2).reshape(len(images), self.size.dim, *grid)
        learnt = self.simple_fpn(native) if self.simple_fpn is not None else {}
        found = {}
        for level in levels:
            stride = self.strides[level]
            if learnt:
                whole = learnt[level.removesuffix("_exp")]
            else:
                covered = [side * self.native_stride for side in grid]
                whole = resample(native, rounded_up(covered, stride))
            height, width = rounded_up(images.shape[2:], stride)
            found[level] = whole[:, :, :height, :width]
        return found

    def _cut(self, levels: Sequence[str]) -> None:
        """The class token stays: the patches attend to it."""
        if self.options.use_simple_fpn:
            strides = {level.removesuffix("_exp"): self.strides[level] for level in levels}
            pyramid = SimplePyramid(self.size.dim, self.native_stride, strides, style=self.style)
            self.style.initialise(pyramid)
            self.simple_fpn = pyramid.to(next(self.parameters()))

    def layers_in_order(self) -> tuple[tuple[str, ...], ...]:
        """What makes the tokens, the blocks of the transformer, what is behind them."""
        first, last = (
            ("patch_emb", "pos_embed", "cls_token"),
            ("post_transformer_norm", "classifier"),
        )
        blocks = [(f"transformer.{index}",) for index in range(self.size.depth)]
        names = [name for name, _ in self.named_parameters()]
        return tuple(
            tuple(
                part for part in layer if any(f"{name}.".startswith(f"{part}.") for name in names)
            )
            for layer in (first, *blocks, (*last, "simple_fpn"))
        )

    def _encode(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Images -> normed tokens [B, N, dim], the class token first, and the patches' grid.

        Zeros behind the last row and column complete the patches.
        """
        height, width = images.shape[2:]
        stride = self.native_stride
        maps = self.patch_emb(F.pad(images, (0, -width % stride, 0, -height % stride)))
        grid = (maps.shape[2], maps.shape[3])
        tokens = self.pos_embed["pos_embed"](maps.flatten(2).transpose(1, 2), grid)
        if self.cls_token is not None:
            tokens = torch.cat((self.cls_token.expand(len(tokens), -1, -1), tokens), dim=1)
        tokens = self._transform(self.token_dropout(tokens))
        return self.post_transformer_norm(tokens), grid

    def _transform(self, tokens: Tensor) -> Tensor:
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            return self.transformer(tokens)
        segments = min(self.options.checkpoint_segments, self.size.depth)
        bounds = [self.size.depth * index // segments for index in range(segments + 1)]
        for start, end in pairwise(bounds):
            tokens = run_recomputed(self.transformer[start:end], tokens)
        return tokens


def _stem(dim: int, strides: Sequence[int], style: LayerStyle) -> nn.Sequential:
    """Image -> map [B, dim, H / 16, W / 16], or H / 8, W / 8 if the last stride is 1."""
    width = max(32, dim // 4)
    (first, second, last), (stride_1, stride_2, stride_3) = [kernel for kernel, _ in STEM], strides
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["0"] = ConvNormAct(3, width, first, stride=stride_1, style=style)
    parts["1"] = ConvNormAct(width, width, second, stride=stride_2, style=style)
    if stride_3 == 1:  # no number, so that the last convolution keeps its own
        parts["pad"] = nn.ZeroPad2d((0, last - 1, 0, last - 1))
    parts["2"] = ConvNormAct(
        width, dim, last, stride=stride_3, norm=False, act=False, bias=True, style=style
    )
    return nn.Sequential(parts)


def _transformer(
    size: Size, options: ViTOptions, norm: Callable[[int], nn.Module], style: LayerStyle
) -> nn.Sequential:
    blocks = []
    for index in range(size.depth):
        block = TransformerBlock(
            size.dim,
            4 * size.dim,
            num_heads=size.heads,
            style=style,
            dropouts=Dropouts(ffn=options.dropout, branch=options.dropout),
            norm=norm,
        )
        rate = options.stochastic_dropout * index / (size.depth - 1)
        block.pre_norm_mha.append(stochastic_depth(rate))
        block.pre_norm_ffn.append(stochastic_depth(rate))
        blocks.append(block)
    return nn.Sequential(*blocks)
