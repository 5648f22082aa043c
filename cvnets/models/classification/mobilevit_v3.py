"""MobileViTv3 (Wadekar and Chaurasia, "MobileViTv3: Mobile-Friendly Vision Transformer with Simple
and Effective Fusion of Local, Global and Input Features", 2022), built on MobileViT and on v2."""

from __future__ import annotations

from typing import Any

from cvnets.kinds import CLASSIFIERS
from cvnets.models.classification.mobilevit import MobileViT, MobileViTOptions, Stage, Widths
from cvnets.models.classification.mobilevit_v2 import MobileViTv2, MobileViTv2Options
from cvnets.models.encoder import ImageEncoder
from cvnets.modules.mobilevit_block import MobileViTv3Block
from cvnets.modules.mobilevit_v2_block import MobileViTv3OnV2Block

# Those built on MobileViT by mode.
WIDTHS: dict[str, Widths] = {
    "xx_small_v3": Widths(
        2, 16, 24, Stage(64, 64, 128, 2), Stage(80, 80, 160, 4), Stage(128, 96, 192, 3)
    ),
    "x_small_v3": Widths(
        4, 32, 48, Stage(96, 96, 192, 2), Stage(160, 120, 240, 4), Stage(160, 144, 288, 3)
    ),
    "small_v3": Widths(
        4, 32, 64, Stage(128, 144, 288, 2), Stage(256, 192, 384, 4), Stage(320, 240, 480, 3)
    ),
}
VARIANTS = WIDTHS | {
    f"{mode}_fast": widths._replace(layer_4=widths.layer_4._replace(depth=2))
    for mode, widths in WIDTHS.items()
}

NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"mobilevit_v3_{mode.replace('_v3', '')}": ("mobilevit_v3", {"mode": mode})
        for mode in VARIANTS
    },
    **{
        f"mobilevit_v3_{multiplier}": ("mobilevit_v3", {"width_multiplier": multiplier})
        for multiplier in (0.5, 0.75, 1.0, 2.0)
    },
}


class MobileViTv3Options(MobileViTv2Options):
    """The MobileViTv3 networks that are built on MobileViT v2."""


class MobileViTv3OnV1(MobileViT):
    """MobileViTv3 on MobileViT: other channels, and blocks that add their input."""

    family = "mobilevit_v3_mit"
    variants = VARIANTS
    names = ("mobilevit_v3", "mobilevit")
    block = MobileViTv3Block


class MobileViTv3OnV2(MobileViTv2):
    """MobileViTv3 on MobileViT v2: the same widths, and blocks that add their input."""

    family = "mobilevit_v3_mitv3"
    block = MobileViTv3OnV2Block


@CLASSIFIERS.register(
    "mobilevit_v3", options={"mit": MobileViTOptions, "mitv3": MobileViTv3Options}
)
def mobilevit_v3(options: MobileViTOptions | MobileViTv3Options, **context: Any) -> ImageEncoder:
    """MobileViTv3 in both families: on MobileViT by a mode `*_v3*`, on v2 by a width multiplier."""
    if isinstance(options, MobileViTv3Options):
        return MobileViTv3OnV2(options, **context)
    return MobileViTv3OnV1(options, **context)


# The style that create_model asks its component for; both families have the same.
mobilevit_v3.family_style = MobileViT.family_style  # type: ignore[attr-defined]
