"""The kinds of components of this floor, and what each is built with."""

from config.registry import Registry

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
