"""Heads of semantic segmentation: from maps of the backbone to logits of the classes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TypedDict, Unpack

from pydantic import Field, model_validator
from torch import Tensor, nn

from config.errors import UserError
from config.options import Options
from config.registry import NoOptions
from cvnets.kinds import SEGMENTATION_HEADS
from cvnets.layers.conv import ConvNormAct
from cvnets.layers.style import LayerStyle
from cvnets.modules.aspp import ASPP, PyramidPooling

AUX_LEVEL = "l4"
LEAST_AUX_CHANNELS = 128


class HeadContext(TypedDict):
    """What every head is built with, see `cvnets.kinds.SEGMENTATION_HEADS`."""

    channels: Mapping[str, int]
    level: str
    num_classes: int
    aux_dropout: float | None
    style: LayerStyle


class SegmentationHead(nn.Module):
    """A head on the map of one level; `body` and `classifier` are what a kind of head sets.

    `levels`: those that it reads. With `aux_dropout` an auxiliary head looks at l4 in training
    (Zhao et al., CVPR 2017, section 3.3). `needs_two_images`: a norm sees a map of one pixel, over
    which a batch norm can learn nothing from one image.
    """

    needs_two_images = False
    aux_head: nn.Module | None
    classifier: nn.Module

    def __init__(self, **context: Unpack[HeadContext]):
        super().__init__()
        channels, self.level = context["channels"], context["level"]
        aux_dropout = context["aux_dropout"]
        self.levels = (self.level,) if aux_dropout is None else (AUX_LEVEL, self.level)
        for name in self.levels:
            if name not in channels:
                raise UserError(
                    f"model.segmentation: the head reads the level {name}, which the backbone does "
                    f"not have; it has {', '.join(channels)}"
                )
        self.in_channels = channels[self.level]
        self.aux_head = None
        if aux_dropout is not None:
            inside = max(channels[AUX_LEVEL] // 4, LEAST_AUX_CHANNELS)
            self.aux_head = nn.Sequential(
                ConvNormAct(channels[AUX_LEVEL], inside, 3, style=context["style"]),
                nn.Dropout2d(aux_dropout),
                classifier_of(inside, **context),
            )

    def body(self, maps: Tensor) -> Tensor:
        """What is done with the map in front of the classifier."""
        return maps

    def forward(self, maps: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Maps by level -> logits [B, num_classes, h, w], and those of the auxiliary head or None."""
        aux = self.auxiliary(maps) if self.training else None
        return self.classifier(self.body(maps[self.level])), aux

    def auxiliary(self, maps: Mapping[str, Tensor]) -> Tensor | None:
        """Logits of the auxiliary head [B, num_classes, h, w] at the size of l4, if there is one."""
        return None if self.aux_head is None else self.aux_head(maps[AUX_LEVEL])


class DeepLabV3Options(Options):
    """The head of DeepLabv3."""

    aspp_rates: tuple[int, int, int] = Field(
        (6, 12, 18),
        description="dilations of the 3x3 convolutions; usually twice as large at output stride 8",
    )
    aspp_out_channels: int = Field(256, ge=1, description="channels of each branch and the result")
    aspp_sep_conv: bool = Field(False, description="depthwise and 1x1 instead of 3x3 convolutions")
    aspp_dropout: float = Field(0.1, ge=0.0, lt=1.0, description="dropout of channels behind it")

    @model_validator(mode="after")
    def _rates(self) -> DeepLabV3Options:
        if min(self.aspp_rates) < 1:
            raise ValueError("aspp_rates: a dilation is at least 1")
        return self


@SEGMENTATION_HEADS.register("deeplabv3", options=DeepLabV3Options)
class DeepLabV3(SegmentationHead):
    """Atrous spatial pyramid pooling in front of the classifier.

    "Rethinking atrous convolution for semantic image segmentation" (Chen et al., 2017).
    """

    needs_two_images = True

    def __init__(self, options: DeepLabV3Options, **context: Unpack[HeadContext]):
        super().__init__(**context)
        width = options.aspp_out_channels
        parts = OrderedDict(
            aspp_layer=ASPP(
                self.in_channels,
                width,
                options.aspp_rates,
                separable=options.aspp_sep_conv,
                style=context["style"],
            ),
            aspp_dropout=nn.Dropout2d(options.aspp_dropout),
        )
        self.aspp = nn.Sequential(parts)
        self.classifier = classifier_of(width, **context)

    def body(self, maps: Tensor) -> Tensor:
        return self.aspp(maps)


class PSPNetOptions(Options):
    """The head of PSPNet."""

    psp_pool_sizes: tuple[int, ...] = Field(
        (1, 2, 3, 6), min_length=1, description="sides of the grids over which means are taken"
    )
    psp_out_channels: int = Field(512, ge=1, description="channels behind the pyramid")
    psp_dropout: float = Field(0.1, ge=0.0, lt=1.0, description="dropout of channels behind it")

    @model_validator(mode="after")
    def _grids(self) -> PSPNetOptions:
        if min(self.psp_pool_sizes) < 1:
            raise ValueError("psp_pool_sizes: a grid has at least one cell")
        return self


@SEGMENTATION_HEADS.register("pspnet", options=PSPNetOptions)
class PSPNet(SegmentationHead):
    """Pyramid pooling in front of the classifier: PSPNet (Zhao et al., CVPR 2017)."""

    def __init__(self, options: PSPNetOptions, **context: Unpack[HeadContext]):
        super().__init__(**context)
        grids = options.psp_pool_sizes
        if self.in_channels < 16 * len(grids):
            raise UserError(
                f"model.segmentation.pspnet.psp_pool_sizes: {len(grids)} grids of at least 16 "
                f"channels, but the map {self.level} has {self.in_channels}; name fewer"
            )
        self.needs_two_images = min(grids) == 1
        width = options.psp_out_channels
        self.psp_layer = PyramidPooling(
            self.in_channels, width, grids, dropout=options.psp_dropout, style=context["style"]
        )
        self.classifier = classifier_of(width, **context)

    def body(self, maps: Tensor) -> Tensor:
        return self.psp_layer(maps)


@SEGMENTATION_HEADS.register("simple_seg_head")
class SimpleHead(SegmentationHead):
    """The classifier alone: a 1x1 convolution on the map."""

    def __init__(self, options: NoOptions, **context: Unpack[HeadContext]):
        super().__init__(**context)
        self.classifier = classifier_of(self.in_channels, **context)


def classifier_of(in_channels: int, **context: Unpack[HeadContext]) -> ConvNormAct:
    """A 1x1 convolution with a bias: [B, in_channels, h, w] -> [B, num_classes, h, w]."""
    return ConvNormAct(
        in_channels,
        context["num_classes"],
        1,
        norm=False,
        act=False,
        bias=True,
        style=context["style"],
    )
