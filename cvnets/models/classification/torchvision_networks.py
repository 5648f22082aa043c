"""Every classification network of torchvision: `torchvision/<its name there>`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from config.errors import UserError, suggestion
from config.registry import NoOptions
from cvnets.kinds import CLASSIFIERS
from cvnets.layers.style import LayerStyle
from cvnets.models.foreign import ForeignEncoder, Tap, accepted

log = logging.getLogger(__name__)


class Trunk(NamedTuple):
    """The modules in front of the classifier, in order; `.*` stands for all children of one.

    `behind`: how many of the last belong to the convolution behind the last stage; `relu_at`: the
    one that is followed by a ReLU which is no module.
    """

    parts: tuple[str, ...]
    behind: int = 0
    channels_last: bool = False
    relu_at: str = ""


_FEATURES = ("features.*",)

TRUNKS: dict[str, Trunk] = {
    "AlexNet": Trunk(_FEATURES),
    "ConvNeXt": Trunk(_FEATURES),
    "DenseNet": Trunk(_FEATURES, relu_at="features.norm5"),
    "EfficientNet": Trunk(_FEATURES, behind=1),
    "GoogLeNet": Trunk((
        "conv1", "maxpool1", "conv2", "conv3", "maxpool2", "inception3a", "inception3b",
        "maxpool3", "inception4a", "inception4b", "inception4c", "inception4d", "inception4e",
        "maxpool4", "inception5a", "inception5b",
    )),
    "Inception3": Trunk((
        "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1",
        "Conv2d_4a_3x3", "maxpool2", "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b",
        "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c",
    )),
    "MNASNet": Trunk(("layers.*",), behind=3),
    "MaxVit": Trunk(("stem", "blocks.*")),
    "MobileNetV2": Trunk(_FEATURES, behind=1),
    "MobileNetV3": Trunk(_FEATURES, behind=1),
    "RegNet": Trunk(("stem", "trunk_output.*")),
    "ResNet": Trunk(("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")),
    "ShuffleNetV2": Trunk(("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"), behind=1),
    "SqueezeNet": Trunk(_FEATURES),
    "SwinTransformer": Trunk(_FEATURES, channels_last=True),
    "VGG": Trunk(_FEATURES),
    "VisionTransformer": Trunk(("conv_proj", "encoder")),
}  # fmt: skip

# Inception networks: no second classifier, which only training has; start values as published.
ARGUMENTS = {
    name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")
}
DILATED = {8: [False, True, True], 16: [False, False, True]}  # of the last three stages
HEADS = ("classifier", "fc", "head", "heads")
NATIVE = (224, 224)  # of all as they are built without weights


@CLASSIFIERS.register("torchvision/*")
class TorchvisionEncoder(ForeignEncoder):
    """Any classification network of torchvision by its name there.

    The layers and their start values are torchvision's, so `style` is not applied. `output_stride`
    is dilation in residual networks with bottlenecks, else the last maps are enlarged.
    """

    family = "torchvision"

    def __init__(
        self,
        options: NoOptions,
        *,
        variant: str,
        style: LayerStyle,
        num_classes: int,
        classifier_dropout: float | None = None,
        output_stride: int | None = None,
    ):
        from torchvision.models import get_model

        _check(variant)
        make = partial(
            get_model, variant, weights=None, num_classes=num_classes, **ARGUMENTS.get(variant, {})
        )
        asked = {"replace_stride_with_dilation": DILATED.get(output_stride or 32)}
        taken = accepted(make, {key: value for key, value in asked.items() if value})
        if output_stride in DILATED and not taken:
            log.info("torchvision/%s has no output_stride: its last maps are enlarged", variant)
        self.variant = variant
        super().__init__(
            f"torchvision/{variant}", make(**taken), native=NATIVE, output_stride=output_stride
        )
        if classifier_dropout is not None:
            self._drop(classifier_dropout)

    @property
    def gradient_checkpointing(self) -> bool:
        """Always False: torchvision does not recompute."""
        return False

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, wanted: bool) -> None:
        if wanted:
            raise UserError(
                f"model.classification.gradient_checkpointing: {self.name} cannot recompute; set "
                "it to false, or take the network from timm"
            )

    def preprocessing(self) -> dict[str, Any]:
        """What weights of the library expect of their images: see the function of this name."""
        return preprocessing(self.variant)

    @property
    def head(self) -> tuple[str, ...]:  # type: ignore[override]
        """The parts that depend on the number of classes."""
        return tuple(f"network.{name}" for name in HEADS if hasattr(self.network, name))

    def _drop(self, rate: float) -> None:
        """Set the rate of the dropout in front of the classifier."""
        children = dict(self.network.named_children())
        parts = [children[name] for name in ("dropout", *HEADS) if name in children]
        drops = [m for part in parts for m in part.modules() if isinstance(m, nn.Dropout)]
        if rate and not drops:
            raise UserError(
                f"model.classification.classifier_dropout: {self.name} has none; leave it out"
            )
        for drop in drops:
            drop.p = rate

    def _taps(self, network: nn.Module, images: Tensor) -> list[Tap]:
        trunk = TRUNKS[type(network).__name__]
        maps = list(_run(network, images))
        first_behind = len(maps) - trunk.behind
        height = images.shape[2]
        return [
            Tap(path, height / value.shape[2], value.shape[1], index >= first_behind)
            for index, (path, value) in enumerate(maps)
        ]

    def _tapped(self, network: nn.Module, images: Tensor, places: Sequence[str]) -> list[Tensor]:
        found: list[Tensor] = []
        for path, maps in _run(network, images):
            if path in places:
                found.append(maps)
            if len(found) == len(places):
                break
        return found

    def _prune(self, network: nn.Module, places: Sequence[str]) -> None:
        paths = list(_paths(network))
        _keep(network, paths[: paths.index(places[-1]) + 1])


def preprocessing(variant: str, weights: str = "DEFAULT") -> dict[str, Any]:
    """What weights of torchvision for `variant` expect of their images.

    `weights`: a member of the network's enumeration, e.g. IMAGENET1K_V1. mean and std (RGB in
    [0, 1]), size (height, width), crop_pct (share of the resized image that the crop keeps),
    interpolation. UserError if torchvision has no such network or weights.
    """
    from torchvision.models import get_model_weights

    _check(variant)
    known = get_model_weights(variant)
    if weights not in known.__members__ and weights != "DEFAULT":
        hint = suggestion(weights, known.__members__)
        raise UserError(f"torchvision/{variant} has no weights {weights!r} - {hint}")
    expected = known[weights].transforms() if weights != "DEFAULT" else known.DEFAULT.transforms()
    # With weights torchvision lets these two undo the ImageNet normalisation inside the network.
    mean, std = ((0.5,) * 3, (0.5,) * 3) if variant in ARGUMENTS else (expected.mean, expected.std)
    crop, resized = expected.crop_size[0], expected.resize_size[0]
    return {
        "mean": tuple(mean),
        "std": tuple(std),
        "size": (crop, crop),
        "crop_pct": crop / resized,
        "interpolation": expected.interpolation.value,
    }


def _check(variant: str) -> None:
    from torchvision import models

    known = models.list_models(module=models)
    if variant not in known:
        hint = suggestion(variant, known)
        raise UserError(
            f"model.classification.name: torchvision has no classification network {variant!r} - "
            f"{hint}"
        )


def _paths(network: nn.Module) -> Iterator[str]:
    """The dotted names of the trunk's modules, those that a network still has."""
    for part in TRUNKS[type(network).__name__].parts:
        parent, star, _ = part.partition(".*")
        if star and hasattr(network, parent):
            for name, _ in network.get_submodule(parent).named_children():
                yield f"{parent}.{name}"
        elif hasattr(network, part):
            yield part


def _run(network: nn.Module, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The trunk's modules one by one: name and map [B, C, H, W]."""
    trunk = TRUNKS[type(network).__name__]
    maps = images
    for path in _paths(network):
        module = network.get_submodule(path)
        maps = _attend(network, maps) if path == "encoder" else module(maps)
        if path == trunk.relu_at:
            maps = maps.relu()
        yield path, maps.permute(0, 3, 1, 2) if trunk.channels_last else maps


def _attend(network: nn.Module, maps: Tensor) -> Tensor:
    """The transformer of a VisionTransformer over the patches of a map, class token apart."""
    token: Tensor = network.get_parameter("class_token")
    tokens = torch.cat((token.expand(len(maps), -1, -1), maps.flatten(2).transpose(1, 2)), dim=1)
    tokens = network.get_submodule("encoder")(tokens)[:, 1:]
    return tokens.transpose(1, 2).unflatten(2, maps.shape[2:])


def _keep(module: nn.Module, paths: Sequence[str]) -> None:
    """Remove the children of `module` that are not, and do not hold, one of `paths`."""
    for name, child in list(module.named_children()):
        inside = [path.removeprefix(f"{name}.") for path in paths if path.startswith(f"{name}.")]
        if inside:
            _keep(child, inside)
        elif name not in paths:
            delattr(module, name)
