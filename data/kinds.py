"""The kinds of components of this floor, and what each is built with."""

from pydantic import Field

from config.options import Options
from config.registry import Registry


class TransformOptions(Options):
    """What the options of every transform derive from."""

    enable: bool = Field(False, description="use it in training")


SAMPLERS = Registry(
    "sampler",
    section="sampler.name",
    context={"batch_size": "images of the base size in a micro-batch"},
)
CLASSIFICATION_DATASETS = Registry(
    "classification data set",
    section="dataset.name",
    context={
        "root": "folder of the split, or None if the recipe names none",
        "split": "train, val or test",
    },
)
DETECTION_DATASETS = Registry(
    "detection data set",
    section="dataset.name",
    context={
        "root": "folder of the data set, or None if the recipe names none",
        "split": "train, val or test",
    },
)
SEGMENTATION_DATASETS = Registry(
    "segmentation data set",
    section="dataset.name",
    context={
        "root": "folder of the data set, or None if the recipe names none",
        "split": "train, val or test",
    },
)
TRANSFORMS = Registry(
    "transform",
    section="image_augmentation.*",  # not chosen by a name: each one is enabled by its own section
    context={"size": "(height, width) of the images that training needs, pixels"},
    options=TransformOptions,
)
