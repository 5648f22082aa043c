"""What makes logits of the last map."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from cvnets.layers.style import LayerStyle


def pooled_classifier(
    channels: int,
    num_classes: int,
    *,
    style: LayerStyle,
    dropout: float | None = None,
    hidden: int | None = None,
    names: tuple[str, str] = ("classifier_dropout", "classifier_fc"),
) -> nn.Sequential:
    """Map [B, channels, H, W] -> logits [B, num_classes] by global pooling and a linear layer.

    `hidden`: width of a layer `fc1` in front, with the activation of the style (MobileNetV3).
    `dropout` in front of the last layer is a module only if there is any. `names`: of the two.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict(global_pool=style.global_pool())
    if hidden is not None:
        parts["fc1"] = nn.Linear(channels, hidden)
        parts["act"] = style.activation()
    if dropout:
        parts[names[0]] = nn.Dropout(dropout)
    parts[names[1]] = nn.Linear(hidden or channels, num_classes)
    return nn.Sequential(parts)
