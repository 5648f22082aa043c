"""The registries of this floor."""

from __future__ import annotations

from config.registry import Registry

CLASSIFIERS = Registry(
    "classification model",
    section="model.classification.name",
    context={
        "style": "LayerStyle: makes norms, activations and start values",
        "num_classes": "number of classes, from the data set",
        "classifier_dropout": "dropout in front of the classifier; None: the network's own rate",
        "output_stride": "input size over size of the last map: 8, 16, 32 or None (32)",
    },
)
