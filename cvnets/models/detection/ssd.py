"""SSD and SSDLite: boxes and classes for anchors on the maps of a backbone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from config.errors import UserError
from config.options import Options
from cvnets.boxes.output import DetectionOutput, Detections
from cvnets.boxes.selection import Limits, select
from cvnets.kinds import DETECTORS
from cvnets.layers.conv import ConvNormAct, SeparableConv
from cvnets.layers.style import LayerStyle
from cvnets.models.dense import Detector
from cvnets.models.detection.anchors import GLOBAL, Sizes
from cvnets.models.encoder import ImageEncoder
from cvnets.modules.feature_pyramid import FeaturePyramid

LEVELS = {8: "l3", 16: "l4", 32: "l5"}  # stride -> level of the backbone
DEFAULT_CHANNELS = (512, 512, 512, 512)
CHANNELS_BEYOND = 128  # of levels for which `proj_channels` has no number


class Anchors(Protocol):
    """What a detector asks of an anchor generator."""

    strides: tuple[int, ...]

    @property
    def per_location(self) -> tuple[int, ...]: ...

    def __call__(self, sizes: Sizes, *, dtype: torch.dtype, device: torch.device) -> Tensor: ...


class Decoder(Protocol):
    """What a detector asks of a matcher."""

    def decode(self, regressions: Tensor, anchors: Tensor) -> Tensor: ...


class SSDOptions(Options):
    """SSD with separable heads (SSDLite)."""

    proj_channels: tuple[int, ...] = Field(
        DEFAULT_CHANNELS,
        description="channels of each level in front of its head; levels beyond the list have 128",
    )
    conf_threshold: float = Field(
        0.01, ge=0.0, lt=1.0, description="objects of a smaller or equal score are left out"
    )
    top_k: int = Field(
        400, ge=1, description="most candidates of a class in an image, before suppression"
    )
    objects_per_image: int = Field(200, ge=1, description="most objects found in an image")
    nms_iou_threshold: float = Field(
        0.5,
        ge=0.0,
        le=1.0,
        description="of two objects of a class with a greater intersection over union the surer "
        "one stays",
    )
    use_fpn: bool = Field(False, description="a feature pyramid in front of the heads")
    fpn_out_channels: int = Field(256, ge=1, description="channels of the feature pyramid")

    @model_validator(mode="after")
    def _has_channels(self) -> SSDOptions:
        if min(self.proj_channels, default=1) < 1:
            raise ValueError("proj_channels: a level has at least 1 channel")
        return self

    @property
    def limits(self) -> Limits:
        """What is left out of all that was found."""
        return Limits(
            self.conf_threshold, self.top_k, self.objects_per_image, self.nms_iou_threshold
        )


class SSDHead(nn.Module):
    """Offsets and class scores for the anchors of each cell of a map [B, in_channels, H, W].

    A 1x1 convolution to `channels` where they differ (`proj_layer`), then a separable convolution
    (MobileNetV2, Sandler et al., 2018, section 6.2); for the global level one 1x1 convolution.
    `outputs`: anchors of a cell, and numbers for each.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        outputs: tuple[int, int],
        is_global: bool,
        style: LayerStyle,
    ):
        super().__init__()
        self.outputs = outputs
        self.proj_layer: nn.Module = nn.Identity()
        if not is_global and in_channels != channels:
            self.proj_layer = ConvNormAct(in_channels, channels, 1, style=style)
        last = {"norm": False, "act": False, "bias": True}
        out_channels = math.prod(outputs)
        self.loc_cls_layer: nn.Module = (
            ConvNormAct(in_channels, out_channels, 1, style=style, **last)
            if is_global
            else SeparableConv(channels, out_channels, 3, style=style, **last)
        )

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [B, H * W * per_location, 4] and scores [B, H * W * per_location, num_classes]."""
        cells = self.loc_cls_layer(self.proj_layer(maps)).permute(0, 2, 3, 1)
        anchors = cells.unflatten(3, self.outputs).flatten(1, 3)
        return anchors[..., :4], anchors[..., 4:]


@DETECTORS.register("ssd", options=SSDOptions)
class SSD(Detector):
    """Single Shot MultiBox Detector (Liu et al., ECCV 2016), sections 2.1 and 2.2.

    Levels of stride 8, 16 and 32 come from the backbone; each further one halves the last by a
    separable convolution, and -1 averages it over the whole image.
    """

    def __init__(
        self,
        options: SSDOptions,
        *,
        encoder: ImageEncoder,
        style: LayerStyle,
        num_classes: int,
        anchors: Anchors,
        matcher: Decoder,
    ):
        super().__init__()
        strides = anchors.strides
        _check_levels(strides, encoder)
        self.anchors, self.matcher = anchors, matcher
        self.limits = options.limits
        self.levels = tuple(LEVELS[stride] for stride in strides if stride in LEVELS)
        self.encoder = encoder.as_backbone(self.levels)
        widths = _widths(options, len(strides))
        channels = [encoder.channels[level] for level in self.levels]
        channels += widths[len(channels) :]
        own = len(self.levels)
        steps = zip(strides[own:], pairwise(channels[own - 1 :]), strict=True)
        self.extra_layers = nn.ModuleDict(
            {f"os_{stride}": _extra(*step, stride, style) for stride, step in steps}
        )
        self.fpn: nn.Module | None = None
        if options.use_fpn:
            by_name = dict(zip(map("os_{}".format, strides), channels, strict=True))
            self.fpn = FeaturePyramid(by_name, options.fpn_out_channels, style=style)
            channels = widths = [options.fpn_out_channels] * len(strides)
        places = zip(channels, widths, anchors.per_location, strides, strict=True)
        self.ssd_heads = nn.ModuleList(
            SSDHead(inside, width, (count, 4 + num_classes), stride == GLOBAL, style)
            for inside, width, count, stride in places
        )
        self.head = tuple(f"ssd_heads.{n}.loc_cls_layer" for n in range(len(self.ssd_heads)))
        for layers in filter(None, (self.extra_layers, self.fpn, self.ssd_heads)):
            style.initialise(layers)

    def forward(self, images: Tensor) -> DetectionOutput:
        """Images [B, 3, H, W], float RGB in [0, 1], of any size -> raw predictions."""
        maps = list(self.encoder.features(images, self.levels).values())
        for layer in self.extra_layers.values():
            maps.append(layer(maps[-1]))
        if self.fpn is not None:
            maps = self.fpn(maps)
        found = [head(level) for head, level in zip(self.ssd_heads, maps, strict=True)]
        boxes = torch.cat([boxes for boxes, _ in found], dim=1)
        scores = torch.cat([scores for _, scores in found], dim=1)
        sizes = tuple((level.shape[2], level.shape[3]) for level in maps)
        dtype = torch.promote_types(boxes.dtype, torch.float32)  # of bfloat16 nothing finer is left
        return DetectionOutput(scores, boxes, self.anchors(sizes, dtype=dtype, device=boxes.device))

    @torch.no_grad()
    def postprocess(self, output: DetectionOutput) -> list[Detections]:
        """What was found in each image, the surest first; boxes may reach outside of the image."""
        dtype = output.anchors.dtype
        boxes = self.matcher.decode(output.boxes.to(dtype), output.anchors)
        return select(output.scores.to(dtype).softmax(dim=-1), boxes, self.limits)


def _extra(in_channels: int, channels: int, stride: int, style: LayerStyle) -> nn.Module:
    """The layer that makes the map of a level from the one before."""
    if stride == GLOBAL:
        conv = ConvNormAct(in_channels, channels, 1, norm=False, style=style)
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), conv)
    return SeparableConv(in_channels, channels, 3, stride=2, style=style)


def _check_levels(strides: Sequence[int], encoder: ImageEncoder) -> None:
    """UserError unless each level comes from the backbone or can be made from the one before."""
    key = "anchor_generator.ssd.output_strides"
    for previous, stride in zip((None, *strides), strides, strict=False):
        if not _follows(previous, stride):
            raise UserError(
                f"{key}: {stride} cannot stand {'first' if previous is None else f'after {previous}'}"
                ": first come 8, 16, 32 (or some of them), then twice the one before, last -1"
            )
        if stride in LEVELS and LEVELS[stride] not in encoder.channels:
            raise UserError(
                f"{key}: {stride} is the level {LEVELS[stride]}, which the backbone "
                f"{type(encoder).__name__} does not have; it has {', '.join(encoder.channels)}"
            )


def _follows(previous: int | None, stride: int) -> bool:
    if previous is None:
        return stride in LEVELS
    if previous == GLOBAL or stride == GLOBAL:
        return previous != GLOBAL
    return stride == 2 * previous or (stride in LEVELS and stride > previous)


def _widths(options: SSDOptions, levels: int) -> list[int]:
    """Channels in front of each head."""
    given = options.proj_channels
    if len(given) > levels and given != DEFAULT_CHANNELS:
        raise UserError(
            f"model.detection.ssd.proj_channels: {len(given)} numbers for the {levels} levels of "
            "the anchors; give at most one for each"
        )
    return [*given, *[CHANNELS_BEYOND] * levels][:levels]
