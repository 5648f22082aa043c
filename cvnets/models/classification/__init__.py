"""Networks that classify images, one file per family; importing this registers them."""

from __future__ import annotations

from typing import Any

from cvnets.kinds import CLASSIFIERS
from cvnets.models.classification import (
    efficientnet,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    mobilevit,
    mobilevit_v2,
    mobilevit_v3,
    resnet,
    timm_networks,
    torchvision_networks,
    vit,
)

__all__ = ["VARIANT_NAMES", "timm_networks", "torchvision_networks"]

# Variant name -> registered name and options.
VARIANT_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    **mobilevit.NAMES,
    **mobilevit_v2.NAMES,
    **mobilevit_v3.NAMES,
    **mobilenet_v1.NAMES,
    **mobilenet_v2.NAMES,
    **mobilenet_v3.NAMES,
    **resnet.NAMES,
    **efficientnet.NAMES,
    **vit.NAMES,
}

for _name, (_registered, _options) in VARIANT_NAMES.items():
    _given = " and ".join(f"{key}: {value}" for key, value in _options.items())
    CLASSIFIERS.hints[_name] = f"{_name} is the network {_registered} with {_given} in its section"
