"""One's own data: a folder of images and a folder of masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from config.errors import UserError
from config.options import OPERATIONAL, Options
from data.datasets.segmentation.labels import IGNORE, RGB, Labels, Mask
from data.datasets.segmentation.masked_images import MaskedImages, Pair, root_folder
from data.datasets.segmentation.masks import read_mask
from data.images import files_below
from data.kinds import SEGMENTATION_DATASETS

KEY = "dataset.image_mask"
SPLITS = ("train", "val", "test")
LOOKED_AT = 20  # masks read for a message that lists what is in them
_SHOWN = 12  # values or colours in a message


class ImageMaskOptions(Options):
    """`dataset.image_mask`: where the files are, and what the values in masks mean."""

    images: str = Field("images", description="folder of the images", json_schema_extra=OPERATIONAL)
    masks: str = Field("masks", description="folder of the masks", json_schema_extra=OPERATIONAL)
    mask_suffix: str = Field(
        ".png", description="what the name of a mask has in place of the image's ending"
    )
    names: tuple[str, ...] = Field((), description="names of the classes")
    values: tuple[int, ...] = Field(
        (), description="value of each class in masks, 0..255; not given: 0, 1, 2, ..."
    )
    ignore_values: tuple[int, ...] | None = Field(
        None, description="values that are left out; null: 255, unless it is a class"
    )
    colors: tuple[RGB, ...] = Field(
        (), description="colour (r, g, b) of each class in masks that have colours, not values"
    )
    ignore_colors: tuple[RGB, ...] = Field((), description="colours that are left out")

    @model_validator(mode="after")
    def _fitting(self) -> ImageMaskOptions:
        if self.colors and (self.values or self.ignore_values):
            raise ValueError("colors: masks have colours or values; give those of one kind")
        if self.ignore_colors and not self.colors:
            raise ValueError("ignore_colors: colors says which ones are classes; give it, too")
        for key in ("values", "colors"):
            count = len(getattr(self, key))
            if count not in (0, len(self.names)):
                raise ValueError(f"{key}: {count} given, but names has {len(self.names)}")
        colours = (*self.colors, *self.ignore_colors)
        if not all(0 <= channel <= 255 for colour in colours for channel in colour):
            raise ValueError("colors: all numbers of colours must be in 0..255")
        if len(set(colours)) < len(colours):
            raise ValueError("colors: a colour is given twice, maybe in ignore_colors as well")
        return self


@SEGMENTATION_DATASETS.register("image_mask", key="image_mask", options=ImageMaskOptions)
class ImageMask(MaskedImages):
    """`images/train/a.jpg` with `masks/train/a.png`, and the same of val and test.

    Also read: `train/images` with `train/masks`, and `images` with `masks` where these have no
    folders of splits; sub-folders are searched. Masks hold a value per pixel (grey, or indices of
    a palette) or a colour. Raises UserError for an image without mask, a mask without image, and
    where no class is named: it lists what the masks hold.
    """

    def __init__(self, options: ImageMaskOptions, *, root: str | None, split: str):
        key = f"dataset.root_{split}"
        folders = f"{options.images}/ and {options.masks}/"
        base = root_folder(root, key, folders)
        images, masks = _folders(base, options, split, key)
        pairs = _pairs(images, masks, options.mask_suffix, key)
        if not options.names:
            raise UserError(_what_masks_hold([Path(pair.mask) for pair in pairs[:LOOKED_AT]]))
        super().__init__(pairs, _labels(options), [f"{len(pairs)} images of {images}"])
        self._colors = np.array([*options.colors, *options.ignore_colors], np.int32)

    def values(self, mask: Mask, path: str) -> Mask:
        """Raw values; those of colours are class indices."""
        if not len(self._colors):
            if mask.ndim == 3 and (mask != mask[..., :1]).any():
                raise UserError(
                    f"{path}: the mask has colours; give {KEY}.colors, one for each name, or save it "
                    "with one channel (values 0..255) or a palette"
                )
            return super().values(mask, path)
        if mask.ndim == 2:
            raise UserError(
                f"{path}: the mask has values, no colours; give {KEY}.values in place of colors"
            )
        codes = _codes(mask)
        known = _codes(self._colors)
        order = np.argsort(known)
        place = order[np.searchsorted(known[order], codes).clip(max=len(known) - 1)]
        wrong = known[place] != codes
        if wrong.any():
            shown = _shown(Counter(map(tuple, mask[wrong].tolist())), wrong.size)
            raise UserError(
                f"{path}: the mask has colours that are neither a class nor ignored: {shown}; add "
                f"them to {KEY}.colors or ignore_colors"
            )
        return np.where(place < len(self.labels), place, IGNORE).astype(np.uint8)


def _labels(options: ImageMaskOptions) -> Labels:
    """The classes as the recipe gives them."""
    names, raw = options.names, options.values or range(len(options.names))
    try:
        if options.colors:  # masks become class indices when they are read
            return Labels(names, tuple(raw), (IGNORE,), options.colors)
        return Labels.of(names, raw, options.ignore_values)
    except UserError as error:
        raise UserError(f"{KEY}: {error}") from None


def _folders(base: Path, options: ImageMaskOptions, split: str, key: str) -> tuple[Path, Path]:
    """The folders of images and of masks of a split."""
    images, masks = base / options.images, base / options.masks
    tried = []
    for name in ("test", "val") if split == "test" else (split,):
        tried += [(images / name, masks / name)]
        tried += [(base / name / options.images, base / name / options.masks)]
    if not any((images / name).is_dir() for name in SPLITS):  # root is the folder of the split
        tried.append((images, masks))
    found = next((pair for pair in tried if pair[0].is_dir()), None)
    if found is None:
        looked = ", ".join(str(pair[0]) for pair in tried)
        raise UserError(f"{key}: no folder of images; looked for {looked}")
    if not found[1].is_dir():
        raise UserError(f"{key}: there is {found[0]}, but no folder of masks {found[1]}")
    return found


def _pairs(images: Path, masks: Path, suffix: str, key: str) -> list[Pair]:
    """Images and masks of the same name; UserError if one has no partner, or several have one."""
    found = files_below(images)
    if not found:
        raise UserError(f"{key}: no image in {images.absolute()}")
    pictures = {Path(name).with_suffix("").as_posix() + suffix: name for name in found}
    if twice := set(found) - set(pictures.values()):
        raise UserError(
            f"{key}: {images / min(twice)} and an image of another ending would share a mask; "
            "rename one"
        )
    present = {Path(name).as_posix() for name in files_below(masks, (suffix.lower(),))}
    if lone := sorted(pictures.keys() - present):
        raise UserError(
            f"{key}: {len(lone)} of {len(pictures)} images have no mask, e.g. "
            f"{images / pictures[lone[0]]} would need {masks / lone[0]}; add them, or set "
            f"{KEY}.mask_suffix"
        )
    if lone := sorted(present - pictures.keys()):
        raise UserError(
            f"{key}: {len(lone)} of {len(present)} masks have no image, e.g. {masks / lone[0]}; "
            f"remove them, or add the images in {images}"
        )
    return [
        Pair(mask.removesuffix(suffix), str(images / image), str(masks / mask))
        for mask, image in pictures.items()
    ]


def _what_masks_hold(paths: Sequence[Path]) -> str:
    """The message for people who have not said what their masks mean."""
    values: Counter[int | tuple[int, ...]] = Counter()
    for path in paths:
        mask = read_mask(path)
        if mask.ndim == 2 or (mask == mask[..., :1]).all():
            counts = np.bincount(mask.reshape(*mask.shape[:2], -1)[..., 0].ravel())
            values.update({n: int(count) for n, count in enumerate(counts) if count})
        else:
            colours, counts = np.unique(mask.reshape(-1, 3), axis=0, return_counts=True)
            values.update(dict(zip(map(tuple, colours.tolist()), counts.tolist(), strict=True)))
    coloured = any(isinstance(value, tuple) for value in values)
    kind, key = ("colours", "colors") if coloured else ("values", "values")
    return (
        f"{KEY}.names: no class is named; the first {len(paths)} masks have the {kind} "
        f"{_shown(values, sum(values.values()))}; name those that are classes, and give as many "
        f"{KEY}.{key} (the rest in ignore_{key})"
    )


def _shown(counts: Counter[int | tuple[int, ...]], total: int) -> str:
    """Values or colours and their share of `total` pixels, those of most pixels first."""
    shown = ", ".join(
        f"{_word(value)} ({100 * count / total:.1f} %)"
        for value, count in counts.most_common(_SHOWN)
    )
    return shown + (f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")


def _word(value: int | tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def _codes(colours: Mask | np.ndarray) -> np.ndarray:
    """One number for each colour [..., 3]."""
    return colours.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
