"""What a network expects of its images, and where weights from elsewhere come from.

Nothing in the names of an official checkpoint says whether it was trained on RGB or on BGR images.
Ours say it in their metadata, named weights in their table, other libraries by their names; for
the rest the user says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from config.errors import UserError, suggestion
from cvnets.weights.dialects import DIALECTS, OFFICIAL, OLD
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

    def turned(self, order: Literal["RGB", "BGR"]) -> Preprocessing:
        """The same for images in `order`."""
        if order == self.channel_order:
            return self
        mean, std = (t and (t[2], t[1], t[0]) for t in (self.mean, self.std))
        return replace(self, channel_order=order, mean=mean, std=std)

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
        found = cls(**values)
        triples = [len(triple) for triple in (found.mean, found.std) if triple is not None]
        if found.channel_order not in ("RGB", "BGR") or set(triples) - {3}:
            raise UserError(f"preprocessing in the metadata of a file is not ours: {dict(given)}")
        return found


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
    several sources with different channel orders are possible, or the family has no such source.
    """
    known = SOURCES.get(family, {})
    if asked != "auto":
        if asked not in known:
            hint = suggestion(asked, (*known, "auto"))
            raise UserError(
                f"{path}: cannot come from {asked} (model.weights_source), which has no networks "
                f"of this family - {hint}"
            )
        return asked
    if library == OLD and OLD not in known:  # of MobileViTv3, which was built on that release
        library = OFFICIAL
    if library != OFFICIAL:
        return library
    possible = {name: about for name, about in known.items() if name not in _libraries(family)}
    if len({about.channel_order for about in possible.values()}) > 1:
        raise UserError(
            f"{path}: says nothing of its channel order, and networks of this family were "
            f"published for both: set model.weights_source to {_candidates(possible)}; "
            f"cvnets check {path} --data FOLDER tells which one fits"
        )
    return next(iter(possible), "")


def _libraries(family: str) -> set[str]:
    """Those that have names of their own for the family."""
    return {dialect.library for dialect in DIALECTS.get(family, ())}


def sources_for(family: str, library: str, order: str | None) -> tuple[str, ...]:
    """The sources that weights with the names of `library` and for images in `order` can have."""
    others = _libraries(family)
    return tuple(
        name
        for name, about in SOURCES.get(family, {}).items()
        if about.channel_order == order and (library != OFFICIAL or name not in others)
    )


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
