"""What a network expects of its images, and where weights from elsewhere come from.

Nothing in the names of an official checkpoint says whether it was trained on RGB or on BGR images.
Ours say it in their metadata, named weights in their table, other libraries by their names; for
the rest the user says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from config.errors import UserError
from cvnets.weights.dialects import DIALECTS, OFFICIAL
from cvnets.weights.files import State

Triple = tuple[float, float, float]
SourceName = Literal[
    "auto", "cvnets-v0.1", "cvnets-main", "mobilevitv3", "timm", "hf", "torchvision"
]
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded image to what the network receives; None where it is not known.

    Images are scaled to [0, 1], then (value - mean) / std per channel, both in `channel_order`.
    `resize`: short side, or (height, width), pixels; `crop`: the centre, (height, width), pixels.
    """

    channel_order: Literal["RGB", "BGR"] = "RGB"
    mean: Triple | None = (0.0, 0.0, 0.0)
    std: Triple | None = (1.0, 1.0, 1.0)
    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    interpolation: str | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON types, for metadata."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Preprocessing:
        """The reverse of `as_json`; keys that are not known here are left out."""
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
            if name in known
        }
        return cls(**values)


_IMAGENET = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)
_RGB, _BGR = Preprocessing(), Preprocessing(channel_order="BGR")

# Family -> source -> what its weights expect. A family that is not here has no weights elsewhere.
# The first release and what was built on it decode with OpenCV, so their networks see BGR; later
# ones decode to RGB. transformers keeps the official weights of MobileViT and flips the images.
SOURCES: Mapping[str, Mapping[str, Preprocessing]] = {
    "mobilevit": {"cvnets-v0.1": _BGR, "cvnets-main": _RGB, "timm": _RGB, "hf": _BGR},
    "mobilevit_v2": {"cvnets-main": _RGB, "timm": _RGB, "hf": _RGB},
    "mobilevit_v3_mit": {"mobilevitv3": _BGR, "cvnets-main": _RGB},
    "mobilevit_v3_mitv3": {"mobilevitv3": _RGB, "cvnets-main": _RGB},
    "mobilenetv1": {"cvnets-main": _RGB},
    "mobilenetv2": {
        "cvnets-v0.1": _BGR, "cvnets-main": _RGB, "timm": _IMAGENET, "torchvision": _IMAGENET,
    },
    "mobilenetv3": {"cvnets-main": _RGB},
    "resnet": {"cvnets-v0.1": _BGR, "cvnets-main": _RGB},
    "efficientnet": {"cvnets-main": _RGB},
    "vit": {"cvnets-main": _RGB},
}  # fmt: skip


def source_of(family: str, library: str, asked: SourceName, path: str) -> str:
    """Where weights without metadata come from: `asked`, else what their names say.

    `library`: whose names they have. "" for a family without weights elsewhere. UserError where
    several sources with different channel orders are possible, or `asked` is none of them.
    """
    by_names = {dialect.library for dialect in DIALECTS.get(family, ())}
    known = SOURCES.get(family, {})
    if library == OFFICIAL:
        possible = {name: about for name, about in known.items() if name not in by_names}
    else:
        possible = {library: known.get(library, _RGB)}
    if asked != "auto":
        if asked not in possible:
            names = " or ".join(possible) or "auto"
            raise UserError(
                f"{path}: cannot come from {asked} (model.weights_source): its names are those of "
                f"{'the official releases' if library == OFFICIAL else library}; set it to {names}"
            )
        return asked
    if len({about.channel_order for about in possible.values()}) > 1:
        raise UserError(
            f"{path}: says nothing of its channel order, and networks of this family were "
            f"published for both: set model.weights_source to {_candidates(possible)}; "
            f"cvnets check {path} --data FOLDER tells which one fits"
        )
    return next(iter(possible), "")


def _candidates(possible: Mapping[str, Preprocessing]) -> str:
    return " or ".join(f"{name} ({about.channel_order})" for name, about in possible.items())


def expected_of(family: str, source: str) -> Preprocessing:
    """What weights of `family` from `source` expect; plain RGB in [0, 1] if nothing else is known."""
    return SOURCES.get(family, {}).get(source, _RGB)


def by_library(about: Mapping[str, Any]) -> Preprocessing:
    """What timm or torchvision writes of weights: mean, std, size, crop_pct and interpolation."""
    return Preprocessing(
        mean=about["mean"],
        std=about["std"],
        resize=round(about["size"][0] / about["crop_pct"]),
        crop=about["size"],
        interpolation=about["interpolation"],
    )


def recorded(metadata: Mapping[str, Any]) -> Preprocessing | None:
    """What our own metadata say (all formats that were ever written), None for other files."""
    if "preprocessing" in metadata:
        return Preprocessing.from_json(metadata["preprocessing"])
    if "channel_order" not in metadata:
        return None
    prefix = "image_augmentation.to_tensor.mean_std_normalization."  # format 1: in the recipe
    recipe = metadata.get("recipe", {})
    about = {"channel_order": metadata["channel_order"]}
    if recipe.get(f"{prefix}enable"):
        about |= {name: recipe[prefix + name] for name in ("mean", "std")}
    return Preprocessing.from_json(about)


def swap_channels(state: State) -> None:
    """Turn the first layer from BGR to RGB input, or back, in place.

    The first layer is the convolution of three channels. RuntimeError if there is not just one.
    """
    stems = [key for key, value in state.items() if value.ndim == 4 and value.shape[1] == 3]
    if len(stems) != 1:
        raise RuntimeError(f"one convolution of three channels is expected, found: {stems}")
    state[stems[0]] = state[stems[0]].flip(1)
